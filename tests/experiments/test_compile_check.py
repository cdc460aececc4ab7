"""Compile check: HLO parsing, estimates, the command, and a real compilation where libtpu is installed."""

import dataclasses
import importlib.util
import json
import pathlib
import threading
import time
import tomllib
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import optax
import pytest

from avfr_jax.errors import ConfigError, MissingBackendError
from avfr_jax.training.objective import Gradients
from avfr_jax.training.profiling import peak_flops
from avfr_jax.training.step import StepConfig
from experiments.compile_check import __main__ as compile_check
from experiments.compile_check import costs, hlo
from experiments.compile_check.hardware import CHIPS, Slice, parse_slice
from experiments.compile_check.report import Report, as_json, as_text

# A program in the compiler's notation: a loop of five passes with a gather of parameters and a scattered sum, an
# asynchronous exchange that two fusions share, a copy beside other work, gathered rows, a padded image.
PROGRAM = """\
HloModule jit_step, is_scheduled=true, entry_computation_layout={(f32[4,8]{1,0})->f32[]}, num_partitions=16

%add (x: f32[], y: f32[]) -> f32[] {
  %x = f32[]{:T(128)} parameter(0)
  %y = f32[]{:T(128)} parameter(1)
  ROOT %sum = f32[]{:T(128)} add(%x, %y)
}

%scattered (input: f32[1024,1024]) -> f32[256,1024] {
  %input = f32[1024,1024]{1,0:T(8,128)} parameter(0)
  %all-reduce.6 = f32[1024,1024]{1,0:T(8,128)} all-reduce(%input), channel_id=3, replica_groups={{0,1,2,3},{4,5,6,7}}, to_apply=%add
  %zero = u32[] constant(0)
  ROOT %part = f32[256,1024]{1,0:T(8,128)} dynamic-slice(%all-reduce.6, %zero, %zero), dynamic_slice_sizes={256,1024}
}

%condition (c: (s32[], f32[256,1024])) -> pred[] {
  %five = s32[]{:T(128)} constant(5)
  %c = (s32[]{:T(128)}, f32[256,1024]{1,0:T(8,128)}) parameter(0)
  %counter = s32[]{:T(128)} get-tuple-element(%c), index=0
  ROOT %less = pred[]{:T(512)} compare(%counter, %five), direction=LT
}

%body (b: (s32[], f32[256,1024])) -> (s32[], f32[256,1024]) {
  %b = (s32[]{:T(128)}, f32[256,1024]{1,0:T(8,128)}) parameter(0)
  %count = s32[]{:T(128)} get-tuple-element(%b), index=0
  %weights = f32[256,1024]{1,0:T(8,128)} get-tuple-element(%b), index=1
  %all-gather.1 = f32[1024,1024]{1,0:T(8,128)} all-gather(%weights), channel_id=2, replica_groups=mesh['axis_0'=4,'axis_1'=4], device_ids=([4,4]T(1,0)) {'axis_0'}, dimensions={0}
  %grow = f32[1024,1024]{1,0:T(8,128)} multiply(%all-gather.1, %all-gather.1), metadata={op_name="jit(step)/while/body/transpose(jvp(Net))/up/up/mul"}, backend_config={"window_config":{"estimated_cycles":"150"}}
  %shared = f32[256,1024]{1,0:T(8,128)} fusion(%grow), kind=kCustom, calls=%scattered
  ROOT %again = (s32[]{:T(128)}, f32[256,1024]{1,0:T(8,128)}) tuple(%count, %shared)
}

%start (p0: bf16[1024,256]) -> (bf16[1024,256], bf16[16384,256], u32[]) {
  %p0 = bf16[1024,256]{1,0:T(8,128)(2,1)} parameter(0)
  %all-gather.2 = bf16[16384,256]{1,0:T(8,128)(2,1)} all-gather(%p0), channel_id=9, replica_groups=[1,16]<=[16], dimensions={0}
  ROOT %begun = (bf16[1024,256]{1,0:T(8,128)(2,1)}, bf16[16384,256]{1,0:T(8,128)(2,1)}, u32[]{:S(2)}) custom-call(%all-gather.2), custom_call_target="AsyncCollectiveStart"
}

%end (p0: bf16[1024,256], p1: bf16[16384,256]) -> bf16[16384,256] {
  %p0 = bf16[1024,256]{1,0:T(8,128)(2,1)} parameter(0)
  %p1 = bf16[16384,256]{1,0:T(8,128)(2,1)} parameter(1)
  %all-gather.3 = bf16[16384,256]{1,0:T(8,128)(2,1)} all-gather(%p0), channel_id=9, replica_groups=[1,16]<=[16], dimensions={0}
  ROOT %ended = bf16[16384,256]{1,0:T(8,128)(2,1)} custom-call(%p0, %p1, %all-gather.3), custom_call_target="AsyncCollectiveDone"
}

%pick (p0: bf16[16384,256], p1: s32[4096]) -> bf16[4096,256] {
  %p0 = bf16[16384,256]{1,0:T(8,128)(2,1)} parameter(0)
  %p1 = s32[4096]{0:T(1024)S(1)} parameter(1)
  ROOT %gather.1 = bf16[4096,256]{1,0:T(8,128)(2,1)} gather(%p0, %p1), offset_dims={1}, collapsed_slice_dims={0}, slice_sizes={1,256}
}

%put (p0: bf16[16384,256], p1: s32[512], p2: bf16[512,256]) -> bf16[16384,256] {
  %p0 = bf16[16384,256]{1,0:T(8,128)(2,1)} parameter(0)
  %p1 = s32[512]{0:T(1024)S(1)} parameter(1)
  %p2 = bf16[512,256]{1,0:T(8,128)(2,1)} parameter(2)
  ROOT %scatter.1 = bf16[16384,256]{1,0:T(8,128)(2,1)} scatter(%p0, %p1, %p2), update_window_dims={1}, inserted_window_dims={0}, to_apply=%add
}

ENTRY %main (a: f32[64,64,3], f: bf16[1024,256]) -> f32[] {
  %a = f32[64,64,3]{2,1,0:T(8,128)} parameter(0), metadata={op_name="batch[\\'source\\']"}
  %f = bf16[1024,256]{1,0:T(8,128)(2,1)} parameter(1)
  %w = f32[256,1024]{1,0:T(8,128)} parameter(2)
  %rows = s32[4096]{0:T(1024)S(1)} parameter(3)
  %few = s32[512]{0:T(1024)S(1)} parameter(4)
  %zero.1 = s32[]{:T(128)} constant(0)
  %copy-start = (f32[64,64,3]{2,1,0:T(8,128)S(1)}, f32[64,64,3]{2,1,0:T(8,128)}, u32[]{:S(2)}) copy-start(%a)
  %copy-done = f32[64,64,3]{2,1,0:T(8,128)S(1)} copy-done(%copy-start)
  %async-start = (bf16[1024,256]{1,0:T(8,128)(2,1)}, bf16[16384,256]{1,0:T(8,128)(2,1)}, /*index=2*/u32[]{:S(2)}) fusion(%f), kind=kCustom, calls=%start
  %g0 = bf16[1024,256]{1,0:T(8,128)(2,1)} get-tuple-element(%async-start), index=0
  %g1 = bf16[16384,256]{1,0:T(8,128)(2,1)} get-tuple-element(%async-start), index=1
  %flipped = f32[64,64,3]{2,1,0:T(8,128)} reverse(%copy-done), dimensions={1}, metadata={op_name="jit(step)/jvp(Net)/Net.encode/first/conv/rev" stack_frame_id=7}, backend_config={"window_config":{"estimated_cycles":"3000","iteration_bounds":["1"]}}
  %async-done = bf16[16384,256]{1,0:T(8,128)(2,1)} fusion(%g0, %g1), kind=kCustom, calls=%end
  %picked = bf16[4096,256]{1,0:T(8,128)(2,1)} fusion(%async-done, %rows), kind=kCustom, calls=%pick, metadata={op_name="jit(step)/jvp(Net)/warp/gather"}
  %cut = bf16[512,256]{1,0:T(8,128)(2,1)} slice(%picked), slice={[0:512], [0:256]}
  %stored = bf16[16384,256]{1,0:T(8,128)(2,1)} fusion(%async-done, %few, %cut), kind=kCustom, calls=%put
  %begin = (s32[]{:T(128)}, f32[256,1024]{1,0:T(8,128)}) tuple(%zero.1, %w)
  %loop = (s32[]{:T(128)}, f32[256,1024]{1,0:T(8,128)}) while(%begin), condition=%condition, body=%body
  %gradients = (f32[1000]{0:T(1024)}, bf16[3,3,64,64]{3,2,1,0:T(8,128)(2,1)}) all-reduce-start(%ga, %gb), channel_id=11, replica_groups={}, to_apply=%add
  %reduced = (f32[1000]{0:T(1024)}, bf16[3,3,64,64]{3,2,1,0:T(8,128)(2,1)}) all-reduce-done(%gradients)
  %round = f32[128]{0:T(128)} collective-permute(%small), channel_id=12, source_target_pairs={{0,1},{1,0}}
  ROOT %loss = f32[]{:T(128)} constant(0)
}
"""  # noqa: E501


@pytest.fixture(scope="module")
def module() -> hlo.Module:
    return hlo.parse(PROGRAM)


@pytest.mark.parametrize(
    ("text", "size", "stored"),
    [
        ("f32[4,64,64,10]{2,1,3,0:T(8,128)}", 4 * 64 * 64 * 10 * 4, 4 * 10 * 64 * 128 * 4),
        ("f32[262144,3]{0,1:T(4,128)S(1)}", 262144 * 12, 262144 * 4 * 4),  # three channels in four rows
        ("bf16[4,256,256,13]{3,0,2,1:T(4,128)(2,1)}", 4 * 256 * 256 * 26, 4 * 256 * 256 * 128 * 2),
        ("pred[72]{0:T(512)(128)(4,1)}", 72, 512),
        ("f32[]{:T(128)}", 4, 512),
        ("f32[7,5]", 140, 140),
        ("((f32[2]{0:S(1)}, /*index=1*/bf16[3]{0:T(256)(2,1)}), u32[]{:S(2)})", 8 + 6 + 4, 8 + 512 + 4),
        ("bf16[0,128]{1,0:T(8,128)(2,1)}", 0, 0),
        ("s4[16]{0}", 8, 8),
        ("f8e4m3fn[16]{0}", 16, 16),
    ],
)
def test_array_sizes_and_padding(text: str, size: int, stored: int):
    shapes = hlo.parse_shapes(text)
    assert (sum(s.size for s in shapes), sum(s.stored for s in shapes)) == (size, stored)


@pytest.mark.parametrize(
    ("groups", "size"),
    [
        ("replica_groups={{0,1,2,3},{4,5,6,7}}", 4),
        ("replica_groups=[8,2]<=[2,8]T(1,0), use_global_device_ids=true", 2),
        ("replica_groups=mesh['x'=2,'y'=8,'z'=3], device_ids=([2,24]T(1,0)) {'x','z'}", 6),
        ("replica_groups={}", 64),
        ("source_target_pairs={{0,1},{1,2}}", 2),
    ],
)
def test_group_sizes_in_every_notation(groups: str, size: int):
    assert hlo.group_size(f"channel_id=1, {groups}, dimensions={{0}}", 64) == size


def test_program_structure(module: hlo.Module):
    assert (module.entry, module.partitions) == ("main", 16)
    entry = module.computations["main"]
    assert entry.instructions["flipped"].op_name == "jit(step)/jvp(Net)/Net.encode/first/conv/rev"
    assert module.trips(entry.instructions["loop"]) == 5
    runs = {line.name: times for _, line, times in module.executed()}
    assert (runs["grow"], runs["flipped"]) == (5, 1)
    assert "gather.1" not in runs  # inside a fusion


def test_trip_counts_annotated_and_unknown():
    loop = 'f32[] while(%t), condition=%c, body=%b, backend_config={"known_trip_count":{"n":"7"}}'
    annotated = hlo.parse(f"ENTRY %m (x: f32[]) -> f32[] {{\n  ROOT %w = {loop}\n}}")
    assert annotated.trips(annotated.computations["m"].root) == 7
    unknown = hlo.parse(PROGRAM.replace("%five = s32[]{:T(128)} constant(5)", "%five = s32[]{:T(128)} add(%c, %c)"))
    assert unknown.trips(unknown.computations["main"].instructions["loop"]) is None


def test_collectives(module: hlo.Module):
    by_name = {c.instruction: c for c in hlo.collectives(module)}
    mib = 2**20
    table = {n: (c.kind, c.size, c.group, c.times) for n, c in by_name.items() if n not in ("gradients", "round")}
    assert table == {
        "all-gather.2": ("all-gather", 8 * mib, 16, 1),  # once, though two fusions contain it
        "all-gather.1": ("all-gather", 4 * mib, 4, 5),
        "all-reduce.6": ("reduce-scatter", 4 * mib, 4, 5),  # each chip keeps its slice
    }
    gradients = by_name["gradients"]
    assert (gradients.size, gradients.group) == (1000 * 4 + 9 * 64 * 64 * 2, 16)
    assert gradients.sent() == pytest.approx(gradients.size * 2 * 15 / 16)
    assert by_name["all-reduce.6"].sent() == pytest.approx(4 * mib * 3 / 4)
    assert by_name["round"].sent() == 512


def test_operations_and_their_traffic(module: hlo.Module):
    chip = CHIPS["v5e"]
    by_name = {o.name: o for o in costs.operations(module, chip)}
    assert set(by_name) == {"flipped", "picked", "cut", "stored", "grow"}
    image = 64 * 64 * 128 * 4  # three channels in 128 lanes
    assert by_name["flipped"].traffic == image  # its input is in on-chip memory
    assert by_name["flipped"].seconds == pytest.approx(3000 / chip.clock)
    assert (by_name["flipped"].layer, by_name["grow"].layer) == ("Net.encode/first", "Net/up (backward)")
    assert (by_name["grow"].times, by_name["grow"].cycles) == (5, 750)
    assert by_name["grow"].traffic == 5 * 3 * 4 * 2**20
    row = 256 * 2
    assert by_name["picked"].opcode == "gather"
    assert by_name["picked"].traffic == 2 * 4096 * row  # the rows read and written, not the whole table
    assert by_name["picked"].seconds == pytest.approx(2 * 4096 * row / chip.hbm_bandwidth)  # no estimate of cycles
    assert by_name["stored"].opcode == "scatter"
    assert by_name["stored"].traffic == 3 * 512 * row  # the table is updated in place
    total = sum(o.traffic for o in by_name.values()) + image  # and the asynchronous copy
    assert costs.total_traffic(module) == total


@pytest.mark.parametrize(
    ("op_name", "layer"),
    [
        ("jit(step)/jvp(Generator)/Generator.decode/up_blocks_1/up_blocks_1/conv/dot", "Generator.decode/up_blocks_1"),
        ("jit(step)/transpose(jvp(VGG))/Conv_1/conv_general_dilated", "VGG/Conv_1 (backward)"),
        ("jit(step)/jvp(G)/G.decode/G.decode_features/final/final.convolve/dot", "G.decode_features/final.convolve"),
        ("jit(step)/jvp()/jit(relu)/max", "(loss, optimiser)"),
    ],
)
def test_layer_names(op_name: str, layer: str):
    assert costs.layer_of(op_name) == layer


def _program(module: hlo.Module, flops: float = 1e12) -> costs.Program:
    operations = costs.operations(module, CHIPS["v5e"])
    return costs.Program(16, 4, 1, flops, operations, hlo.collectives(module), costs.total_traffic(module))


def test_estimate_of_a_step(module: hlo.Module):
    chip = CHIPS["v5e"]
    one = costs.estimate(_program(module), Slice(chip, (4, 4)))
    assert one.flop_bound == pytest.approx(1e12 / 197e12)
    sent = {c.instruction: c.sent() * c.times for c in hlo.collectives(module)}
    assert one.ici_bound == pytest.approx(sum(sent.values()) / 200e9)
    assert one.step == pytest.approx(max(one.compute, one.hbm_bound) + one.ici_bound + one.latency)
    figures = one.figures(64 * 3600)
    assert figures["bound"] == "FLOP"
    assert figures["samples_per_second"] == pytest.approx(64 / one.step)
    assert figures["hours"] == pytest.approx(one.step)
    assert figures["utilisation"] == figures["roofline"]
    larger = costs.estimate(_program(module), Slice(chip, (16, 16)))
    assert (larger.batch, larger.compute) == (1024, one.compute)
    # Exchanges between all chips grow by 255/256 over 15/16, and arrays gathered with the batch; those within groups
    # of four stay.
    grown = (sent["gradients"] + 16 * sent["all-gather.2"]) * (255 / 256) / (15 / 16)
    stay = sent["all-gather.1"] + sent["all-reduce.6"] + sent["round"]
    assert larger.ici_bound == pytest.approx((grown + stay) / 200e9)
    assert larger.latency > one.latency


def test_exchanges_of_the_batch_are_listed(module: hlo.Module):
    program = _program(module)
    assert [c.instruction for c in program.strays()] == ["all-gather.2"]
    # The same exchange is legitimate where all chips share the parameters.
    assert dataclasses.replace(program, fsdp=16).strays() == []


def test_chips_agree_with_the_peaks_of_training():
    kinds = {"v4": "TPU v4", "v5e": "TPU v5 lite", "v5p": "TPU v5", "v6e": "TPU v6 lite"}
    assert {name: chip.flops for name, chip in CHIPS.items()} == {n: peak_flops(k) for n, k in kinds.items()}
    clocks = {name: round(chip.clock / 1e9, 2) for name, chip in CHIPS.items()}
    assert clocks == {"v4": 1.05, "v5e": 1.5, "v5p": 1.75, "v6e": 1.75}


@pytest.mark.parametrize(
    ("name", "shape"),
    [("v5e:16x16", (16, 16)), ("v5e-64", (8, 8)), ("v5e-8", (2, 4)), ("v4:2x2x4", (2, 2, 4)), ("v4-4", (2, 2, 1)),
     ("v4-8", (2, 2, 2)), ("v5p-64", (4, 4, 4))],
)  # fmt: skip
def test_slices(name: str, shape: tuple[int, ...]):
    assert parse_slice(name).shape == shape


@pytest.mark.parametrize("name", ["v9:4x4", "v5e", "v5e:3x4", "v5e:4x4x4", "v5e:32x32", "v4:4x4", "v5e-5", "tpu", ""])
def test_slices_that_do_not_exist(name: str):
    with pytest.raises(ConfigError, match=r"slice|topology"):
        parse_slice(name)


def _report(module: hlo.Module, temporaries: int = 2**30) -> Report:
    sizes = {"argument": 2**29, "output": 2**28, "alias": 2**28, "temp": temporaries, "generated_code": 2**26}
    memory = SimpleNamespace(**{f"{key}_size_in_bytes": value for key, value in sizes.items()})
    figures = {"flops": 2e12, "bytes accessed": 3e9}
    return Report(Slice(CHIPS["v5e"], (4, 4)), 64, 12.0, memory, figures, _program(module), 1)


def test_report(module: hlo.Module):
    report = _report(module)
    scaled = [(costs.estimate(report.program, Slice(report.where.chip, s)), False) for s in ((2, 2), (16, 16))]
    text = as_text("tiny", report, scaled, 1_000_000)
    for words in (
        "v5e:4x4: 16 chips, 4 samples a chip", "1.562 GiB of 14.9: fits, 90% to spare", "WARNING: all-gather of 8.4 MB",
        "reduce-scatter between 4 chips", "FLOP-bound", "1,000,000 samples",
        "flipped = f32[64,64,3]{2,1,0:T(8,128)} reverse", "Net/up (backward)",
    ):  # fmt: skip
        assert words in text
    data = json.loads(as_json("tiny", report, scaled, 1_000_000))
    assert (data["memory"]["fits"], data["memory"]["total"]) == (True, report.memory_bytes)
    assert [s["chips"] for s in data["slices"]] == [4, 256]
    assert data["estimate"]["hours"] == pytest.approx(1e6 / data["estimate"]["samples_per_second"] / 3600)
    assert data["cost_analysis"] == {"flops": 2e12, "bytes accessed": 3e9, "optimal_seconds": None}
    counts = {(row["kind"], row["group"]): row["count"] for row in data["collectives"]}
    assert counts["all-gather", 4] == 5
    total = sum(c.sent() * c.times for c in report.program.collectives)
    assert sum(row["sent"] for row in data["collectives"]) == pytest.approx(total)
    full = _report(module, temporaries=2**34)
    assert not full.fits
    assert "DOES NOT FIT" in as_text("tiny", full, [], 1)


class Regression:
    """A trained convolution behind a frozen one."""

    networks = averaged = ("net",)
    frozen = {"kernel": jax.ShapeDtypeStruct((3, 3, 8, 128), jnp.float32)}  # noqa: RUF012
    notes = ()

    def init(self, key):
        return {"net": {"params": {"kernel": jax.random.normal(key, (1, 1, 128, 128))}}}

    def example_batch(self, size):
        return {"source": jax.ShapeDtypeStruct((size, 16, 16, 8), jnp.float32)}

    def sample(self, key, size):
        return jax.random.normal(key, (size,))

    def gradients(self, variables, frozen, batch, random, axis_name=None):
        def loss(params):
            numbers = ("NHWC", "HWIO", "NHWC")
            x = batch["source"] + random[:, None, None, None]
            for kernel in (frozen["kernel"], params["kernel"]):
                x = jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=numbers)
            return (x**2).mean()

        value, grads = jax.value_and_grad(loss)(variables["net"]["params"])
        return Gradients({"net": grads}, {"net": {}}, {"loss": value})


def _plan(**settings) -> compile_check.Plan:
    values = {"step": StepConfig(ema_decay=0.9), "batch_size": 64, "fsdp": 1, "samples": 6400, **settings}
    return compile_check.Plan("regression", Regression(), {"net": optax.adam(1e-3)}, **values)


needs_libtpu = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed (pip install 'avfr-jax[tpu-check]')"
)


@needs_libtpu
@pytest.mark.parametrize(("topology", "fsdp"), [("v5e:4x4", 1), ("v4:2x2x4", 4)])
def test_compiles_the_real_step_for_a_slice(topology: str, fsdp: int, tmp_path: pathlib.Path):
    plan = _plan(fsdp=fsdp, step=StepConfig(accumulate=2, ema_decay=0.9))
    report = compile_check.check(plan, parse_slice(topology), quick=True, text_file=tmp_path / "step.hlo")
    assert report.fits
    # The state is updated in place: parameters, two moments and the average, divided along fsdp.
    assert report.memory.alias_size_in_bytes >= 4 * 128 * 128 * 4 // fsdp
    assert report.program.batch == 4
    # Forward twice, backward once and a half of 9 x 8 x 128 + 128 x 128 weights at 16 x 16 positions of 4 samples.
    expected = 2 * 4 * 16 * 16 * (9 * 8 * 128 + 2 * 128 * 128)
    assert report.program.flops == pytest.approx(expected, rel=0.2)
    assert report.figures["flops"] > 0
    kinds = {c.kind for c in report.program.collectives}
    assert kinds & {"all-reduce", "reduce-scatter"}
    assert ("all-gather" in kinds) == (fsdp > 1)
    assert report.open_loops == 0
    assert all(o.seconds > 0 for o in report.program.operations)
    assert (tmp_path / "step.hlo").read_text().startswith("HloModule")


@needs_libtpu
def test_a_step_that_does_not_fit():
    class Large(Regression):
        def example_batch(self, size):
            return {"source": jax.ShapeDtypeStruct((size, 2048, 2048, 8), jnp.float32)}

    plan = dataclasses.replace(_plan(), objective=Large())
    with pytest.raises(compile_check.DoesNotFit, match="4 samples a chip"):
        compile_check.check(plan, parse_slice("v5e:4x4"), quick=True)


@needs_libtpu
def test_a_batch_that_the_slice_cannot_divide():
    with pytest.raises(ConfigError, match="multiple of 16"):
        compile_check.check(_plan(batch_size=20), parse_slice("v5e:4x4"))
    with pytest.raises(ConfigError, match="3"):
        compile_check.check(_plan(fsdp=3), parse_slice("v5e:4x4"))


def test_missing_libtpu_names_the_package(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(compile_check.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingBackendError, match="tpu-check"):
        compile_check.slice_devices(parse_slice("v5e:4x4"))


@pytest.fixture
def compiled(module: hlo.Module, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Replace the plan and the compilation; records what the command asks for."""
    calls = SimpleNamespace(plans=[], overrides=None, temporaries=2**30)

    def load(config, overrides, identities):
        calls.overrides = overrides
        return _plan()

    def check(plan, where, **options):
        calls.plans.append((where.name, plan.batch_size))
        report = _report(module, calls.temporaries)
        return dataclasses.replace(report, where=where, batch_size=plan.batch_size)

    monkeypatch.setattr(compile_check, "load_plan", load)
    monkeypatch.setattr(compile_check, "check", check)
    return calls


def test_command_prints_a_report(compiled: SimpleNamespace, capsys: pytest.CaptureFixture[str]):
    command = ["--config", "x.py", "--topology", "v5e:4x4", "--batch-per-chip", "8", "--step.accumulate", "2"]
    assert compile_check.main(command) == 0
    assert compiled.plans == [("v5e:4x4", 128)]
    assert compiled.overrides == ["--step.accumulate", "2"]
    printed = capsys.readouterr()
    assert "Slices of v5e" in printed.out
    assert "compiling regression for v5e:4x4" in printed.err


def test_command_compiles_each_slice_when_asked(compiled: SimpleNamespace, capsys: pytest.CaptureFixture[str]):
    command = ["--config", "x.py", "--topology", "v5e-16", "--slices", "4,16", "--compile-each", "--json"]
    assert compile_check.main(command) == 0
    assert compiled.plans == [("v5e:4x4", 64), ("v5e:2x2", 16)]
    assert [s["compiled"] for s in json.loads(capsys.readouterr().out)["slices"]] == [True, True]


def test_a_compiler_that_does_not_come_back_ends_the_command(
    compiled: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """It shows progress until the deadline, and the process exits then with a sentence."""
    ended = threading.Event()
    statuses: list[int] = []

    def exit_(status: int) -> None:
        statuses.append(status)
        ended.set()
        time.sleep(0.3)  # the main thread ends meanwhile

    monkeypatch.setattr(compile_check.os, "_exit", exit_)
    monkeypatch.setattr(compile_check, "_INTERVAL", 0.1)
    monkeypatch.setattr(compile_check.importlib.metadata, "version", lambda name: "9.9")
    check = compile_check.check

    def never(*words: object, **named: object) -> object:
        assert ended.wait(10)
        return check(*words, **named)

    monkeypatch.setattr(compile_check, "check", never)
    compile_check.main(["--config", "x.py", "--minutes", str(0.5 / 60)])
    assert set(statuses) == {compile_check.LATE}
    printed = capsys.readouterr().err
    assert "compiling regression for v5e:4x4: 0 s" in printed
    last = next(line for line in printed.splitlines() if line.startswith("compile_check: "))
    assert "libtpu 9.9 has not come back" in last
    assert f"libtpu=={compile_check.LIBTPU}" in last
    assert "--quick" in last


def test_the_extra_installs_the_version_that_was_tried():
    text = (pathlib.Path(__file__).resolve().parents[2] / "pyproject.toml").read_text()
    extras = tomllib.loads(text)["project"]["optional-dependencies"]
    assert extras["tpu-check"] == [f"libtpu=={compile_check.LIBTPU}"]


def test_command_fails_when_memory_is_short(compiled: SimpleNamespace, capsys: pytest.CaptureFixture[str]):
    compiled.temporaries = 2**34
    assert compile_check.main(["--config", "x.py"]) == 1
    assert "DOES NOT FIT" in capsys.readouterr().out


@pytest.mark.parametrize(
    "command",
    [["--minutes", "0"], ["--topology", "v9:2x2"], ["--slices", "4,x"], ["--slices", "5"], ["--topology", "v5e:3x3"]],
)
def test_command_ends_with_one_sentence(
    command: list[str], compiled: SimpleNamespace, capsys: pytest.CaptureFixture[str]
):
    assert compile_check.main(["--config", "x.py", *command]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    assert compiled.plans == []

"""The training loop: its outputs, errors and end."""

import dataclasses
import functools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from avfr_jax.errors import CheckpointError, ConfigError, InputError
from avfr_jax.model_store import save_model
from avfr_jax.models.fomm import FommConfig
from avfr_jax.training.checkpointing import load_variables
from avfr_jax.training.logging import read_metrics
from avfr_jax.training.loop import LoopConfig, NonFiniteError, fit
from avfr_jax.training.meter import Meter
from avfr_jax.training.profiling import peak_flops, program_flops
from avfr_jax.training.sharding import make_mesh, put_batch
from avfr_jax.training.step import StepConfig
from avfr_jax.training.validation import Pair, ValidationConfig, Validator, spread, validation_pairs
from pipelines.prefetch import DevicePrefetch
from tests.training.small import HeldOut, LinearObjective, Pictures, small_run

QUIET = LoopConfig(steps=12, log_every=4, panel_every=6, validate_every=6, checkpoint_every=6, tensorboard=False)


def test_a_run_writes_figures_panels_checkpoints_and_a_model(tmp_path, capfd):
    exported = {}

    def export(variables, provenance, quality):
        exported.update(variables=variables, provenance=provenance, quality=quality)
        return tmp_path / "model"

    loop = dataclasses.replace(QUIET, profile_first=2, profile_steps=2)
    run = small_run(tmp_path, loop=loop, export=export, provenance={"data": "pictures"}, devices=2)
    outcome = fit(run)
    assert (outcome.step, outcome.stopped_by, outcome.model) == (12, None, tmp_path / "model")
    assert exported["provenance"] == {"data": "pictures", "steps": 12, "losses_use": ["no frozen network"]}
    assert exported["quality"] == outcome.quality
    assert isinstance(exported["variables"]["generator"]["params"]["up"], np.ndarray)

    lines = read_metrics(tmp_path / "metrics.jsonl")
    assert [line["step"] for line in lines] == [4, 6, 8, 12, 12]
    assert {"train/loss", "train/grad_norm/generator", "speed/steps_per_second"} <= lines[0].keys()
    assert lines[-1] == {"step": 12, "validation/l1": outcome.quality["l1"]}
    assert sorted(p.name for p in (tmp_path / "panels").iterdir()) == ["00000006-panels.png", "00000012-panels.png"]
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == ["12", "6"]
    assert list((tmp_path / "profile").rglob("*.xplane.pb"))
    words = capfd.readouterr().err
    assert "step 4/12  loss 0." in words
    assert "samples/s" in words

    # Once more: nothing is left to do, and the figures are neither doubled nor measured anew.
    again = small_run(tmp_path, loop=loop, export=export, devices=2)
    assert fit(again).quality == outcome.quality
    assert read_metrics(tmp_path / "metrics.jsonl") == lines


def test_logged_figures_are_means_over_the_interval(tmp_path):
    every, mean = tmp_path / "every", tmp_path / "mean"
    plain = dataclasses.replace(QUIET, panel_every=0, validate_every=0, checkpoint_every=0)
    fit(small_run(every, loop=dataclasses.replace(plain, log_every=1), devices=1))
    fit(small_run(mean, loop=plain, devices=1))
    losses = [line["train/loss"] for line in read_metrics(every / "metrics.jsonl")]
    means = [line["train/loss"] for line in read_metrics(mean / "metrics.jsonl")]
    np.testing.assert_allclose(means, np.reshape(losses, (3, 4)).mean(1), rtol=1e-12)


def test_a_loss_that_is_no_number_stops_the_run_and_the_good_checkpoint_stays(tmp_path):
    loop = dataclasses.replace(QUIET, checkpoint_every=3, panel_every=0)
    run = small_run(tmp_path, loop=loop, objective=LinearObjective(break_at=7), devices=1)
    with pytest.raises(NonFiniteError, match=r"loss is nan at step 8; the last good checkpoint is that of step 6"):
        fit(run)
    assert max(int(p.name) for p in (tmp_path / "checkpoints").iterdir()) == 6


def test_weights_that_are_no_numbers_are_never_saved(tmp_path):
    """Finite losses, and a learning rate that throws the weights out of float32 at the step of the checkpoint."""
    loop = dataclasses.replace(QUIET, steps=1, checkpoint_every=1, validate_every=0, panel_every=0)
    with pytest.raises(NonFiniteError, match="a weight of generator is not finite at step 1; there is no checkpoint"):
        fit(small_run(tmp_path, loop=loop, learning_rate=3.4e38 * 4, devices=1))
    assert not list((tmp_path / "checkpoints").glob("[0-9]*"))


def test_data_that_ends_is_an_input_error(tmp_path):
    run = small_run(tmp_path, loop=QUIET, devices=1)

    class Short(Pictures):
        def __next__(self):
            if int(self.state()) == 5:
                raise StopIteration
            return super().__next__()

    short = DevicePrefetch(Short(8), functools.partial(put_batch, run.mesh))
    with pytest.raises(InputError, match="ended before the run did"):
        fit(dataclasses.replace(run, data=short))


def test_a_batch_that_the_devices_cannot_divide_is_refused_at_once(tmp_path):
    with pytest.raises(ConfigError, match="batch of 9 cannot be divided over 2"):
        fit(small_run(tmp_path / "never", loop=QUIET, batch_size=9, devices=2))
    assert not (tmp_path / "never").exists()
    with pytest.raises(ConfigError, match="at least one step"):
        fit(small_run(tmp_path / "never", loop=dataclasses.replace(QUIET, log_every=-1), devices=1))


def test_another_learning_rate_does_not_go_on_from_the_checkpoint(tmp_path):
    loop = dataclasses.replace(QUIET, steps=2, panel_every=0, validate_every=0)
    fit(small_run(tmp_path, loop=loop, devices=1))
    with pytest.raises(CheckpointError, match=r"made with optimiser\.learning_rate = 0\.01, not 0\.5"):
        fit(small_run(tmp_path, loop=dataclasses.replace(loop, steps=3), learning_rate=0.5, devices=1))


def test_init_from_gives_the_weights_and_their_averages(tmp_path):
    """A run of one step at a rate of zero ends with the weights it was given."""
    objective = LinearObjective()
    given = jax.tree.map(lambda x: np.full(x.shape, 0.25, np.float32), objective.init(jax.random.key(1)))
    save_model(tmp_path / "given", "fomm", FommConfig(), given)
    exported = {}
    loop = dataclasses.replace(QUIET, steps=1, panel_every=0, validate_every=0)
    run = small_run(
        tmp_path / "run", loop=loop, learning_rate=0.0, devices=2, init_from=tmp_path / "given",
        step=StepConfig(ema_decay=0.5), export=lambda variables, *_: exported.update(variables) or tmp_path,
    )  # fmt: skip
    fit(run)
    np.testing.assert_array_equal(exported["generator"]["params"]["up"], 0.25)
    with pytest.raises(CheckpointError, match="no model folder"):
        load_variables(tmp_path / "run", given)
    with pytest.raises(CheckpointError, match="holds none of the networks"):
        load_variables(tmp_path / "given", {"discriminator": given["generator"]})
    with pytest.raises(CheckpointError, match="do not fit"):
        load_variables(tmp_path / "given", LinearObjective(9).init(jax.random.key(1)))


def test_the_best_checkpoint_can_be_exported(tmp_path):
    """Training away from the best weights: the rate is far too high, so the first validation stays the best."""
    exported = {}
    loop = dataclasses.replace(QUIET, steps=8, validate_every=2, checkpoint_every=2, panel_every=0, export="best")
    outcome = fit(
        small_run(
            tmp_path, loop=loop, learning_rate=1.0, devices=1, export=lambda v, p, q: exported.update(p) or tmp_path
        )
    )
    lines = [line for line in read_metrics(tmp_path / "metrics.jsonl") if "validation/l1" in line]
    best = min(lines, key=lambda line: line["validation/l1"])
    assert outcome.quality == {"l1": best["validation/l1"]}
    assert exported["steps"] == best["step"] < 8


def test_validation_is_the_mean_of_clip_means_on_any_number_of_devices():
    objective = LinearObjective()
    variables = objective.init(jax.random.key(0))
    expected = []
    for clip, frames in enumerate(HeldOut.frames):
        if frames > 1:
            pairs = [Pair(clip, 0, i) for i in range(2, frames, 2)]
            expected.append(np.mean(objective.evaluate(variables, HeldOut().samples(pairs))[0]["l1"]))
    for devices, batch_size in ((1, 8), (4, 3)):  # three samples a batch are filled up to four
        mesh = make_mesh(devices=jax.devices()[:devices])
        validator = Validator(objective, HeldOut(), mesh, ValidationConfig(stride=2), batch_size)
        np.testing.assert_allclose(validator(variables)["l1"], np.mean(expected), rtol=1e-6)
        assert validator.panels(variables, 1)["output"].shape == (1, 4, 4, 3)


def test_validation_pairs_are_spread_and_the_same_every_time():
    pairs = validation_pairs((30, 1, 4, 12), ValidationConfig(stride=5, frames_per_clip=3))
    assert pairs == [
        *(Pair(0, 0, i) for i in (5, 10, 20)),
        Pair(2, 0, 3),
        *(Pair(3, 0, i) for i in (5, 10)),
    ]
    assert {p.clip for p in validation_pairs((9,) * 10, ValidationConfig(clips=2))} == {0, 5}
    assert spread(3, 0) == spread(3, 5) == [0, 1, 2]
    with pytest.raises(InputError, match="no validation clip with two frames"):
        validation_pairs((1, 1), ValidationConfig())


def test_flops_and_peaks():
    a = np.zeros((64, 32), np.float32)
    lowered = jax.jit(lambda x, y: x @ y).lower(a, a.T)
    flops = program_flops(lowered)
    assert flops == pytest.approx(2 * 64 * 64 * 32, rel=0.05)
    assert program_flops(lowered, chips=4, passes=2) == pytest.approx(flops / 2)
    assert peak_flops("NVIDIA H100 80GB HBM3") == peak_flops("NVIDIA H200") == 989.4e12
    assert peak_flops("NVIDIA H100 PCIe") == 756e12
    assert peak_flops("TPU v5 lite") == 197e12
    assert peak_flops("TPU v5p") == peak_flops("TPU v5") == 459e12
    assert peak_flops("TPU v4") == 275e12
    assert peak_flops("cpu") is None
    assert peak_flops("TPU v4 lite") is None


def test_speed_leaves_pauses_out(monkeypatch):
    now, logged = [0.0], []
    monkeypatch.setattr("avfr_jax.training.meter.time.perf_counter", lambda: now[0])
    writer = types.SimpleNamespace(scalars=lambda step, values: logged.append(values["speed/steps_per_second"]))
    meter = Meter(writer, steps=20, log_every=10, batch_size=4, stop=NonFiniteError, sums={}, count=0)
    for step in range(1, 21):
        now[0] += 0.5
        meter.add(step, {"loss": jnp.ones(())})
        meter.flush()
        if step == 3:
            with meter.paused():
                now[0] += 2.0
    assert logged == pytest.approx([2.0, 2.0])

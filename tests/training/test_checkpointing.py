"""Checkpoints of killed, stopped and interrupted runs, and that a resumed run is bit for bit the same."""

import dataclasses
import json
import os
import pathlib
import random
import resource
import signal
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from avfr_jax.errors import CheckpointError, OutputError
from avfr_jax.training.checkpointing import Checkpoints, first_difference
from avfr_jax.training.logging import read_metrics
from avfr_jax.training.loop import LoopConfig, fit
from avfr_jax.training.sharding import make_mesh, state_shardings
from avfr_jax.training.state import TrainState
from avfr_jax.training.step import StepConfig, init_state, state_shapes
from tests.conftest import QUICK_COMPILATION
from tests.training.small import LinearObjective, make_optimisers, small_run
from tests.training.worker import BATCH, loop_config

ROOT = pathlib.Path(__file__).resolve().parents[2]
STEPS, EVERY = 40, 3
QUICK, SLOW = 0.01, 0.25  # seconds to read a batch


def start(workdir, *words, **variables):
    """A worker, with further environment variables."""
    command = [sys.executable, "-m", "tests.training.worker", str(workdir), *map(str, words)]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": QUICK_COMPILATION, **variables}
    return subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)


def wait_for_step(workdir, step, *workers):
    """Wait until the figures of `step` are written."""
    path = workdir / "metrics.jsonl"
    for _ in range(12_000):  # a process may take a minute to start on a busy machine
        if path.exists() and any(line["step"] >= step for line in read_metrics(path)):
            return
        for worker in workers:
            assert worker.poll() is None, worker.stderr.read()
        time.sleep(0.01)
    raise AssertionError(f"step {step} was never reached")


def curve(workdir):
    """Every figure of every step that does not measure time."""
    lines = read_metrics(workdir / "metrics.jsonl")
    return [{k: v for k, v in line.items() if not k.startswith("speed/")} for line in lines]


def last_state(workdir):
    """The newest checkpoint."""
    objective = LinearObjective()
    optimisers = make_optimisers(small_optimiser(), objective.networks)
    mesh = make_mesh(devices=jax.devices()[:1])
    shapes = state_shapes(objective, optimisers, StepConfig(ema_decay=0.9))
    places = state_shardings(mesh, shapes)
    target = jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), shapes, places)
    about = json.loads(newest(workdir).joinpath("about", "metadata").read_text())
    checkpoints = Checkpoints(workdir, about["settings"])
    saved = checkpoints.restore(target)
    checkpoints.close()
    return saved


def newest(workdir):
    """The folder of the newest checkpoint."""
    return max((workdir / "checkpoints").glob("[0-9]*"), key=lambda p: int(p.name) if p.name.isdigit() else -1)


def small_optimiser():
    from avfr_jax.training.optimisers import OptimiserConfig

    return OptimiserConfig(learning_rate=0.01)


def assert_same_end(one, other):
    """Bit for bit the same curve, state and place in the data."""
    assert curve(one) == curve(other)
    a, b = last_state(one), last_state(other)
    assert (a.step, a.data, a.counters) == (b.step, b.data, b.counters)
    jax.tree.map(np.testing.assert_array_equal, a.state, b.state)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An uninterrupted run on one device."""
    workdir = tmp_path_factory.mktemp("whole")
    run = small_run(workdir, loop=loop_config(STEPS, EVERY), batch_size=BATCH, devices=1)
    outcome = fit(run)
    assert outcome.step == STEPS
    assert outcome.stopped_by is None
    return workdir


def test_run_killed_at_a_random_step_resumes_bit_for_bit(whole, tmp_path):
    step = random.randrange(2, STEPS - 5)
    worker = start(tmp_path, STEPS, EVERY, QUICK)
    wait_for_step(tmp_path, step, worker)
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    worker.stderr.close()
    # A line that the kill cut off.
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 39, "tra')
    outcome = fit(small_run(tmp_path, loop=loop_config(STEPS, EVERY), batch_size=BATCH, devices=1))
    assert outcome.step == STEPS
    assert len(curve(tmp_path)) == STEPS + STEPS // 10
    assert_same_end(whole, tmp_path)
    assert not list((tmp_path / "checkpoints").glob("*tmp*"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signal_saves_and_the_same_command_resumes(number, whole, tmp_path, capfd):
    class Signalling(LinearObjective):
        """Sends the signal once, when the panels of step 7 are traced."""

        def panels(self, variables, batch):
            os.kill(os.getpid(), number)
            return super().panels(variables, batch)

    never = dataclasses.replace(loop_config(STEPS, 0), panel_every=7)
    if (before := signal.getsignal(number)) == signal.SIG_IGN:  # under nohup, where it stays ignored
        pytest.skip(f"{number.name} is ignored here")
    outcome = fit(small_run(tmp_path, loop=never, batch_size=BATCH, devices=1, objective=Signalling()))
    assert (outcome.step, outcome.stopped_by, outcome.model) == (7, number, None)
    assert signal.getsignal(number) is before
    assert f"Stopped by {number.name} after step 7" in capfd.readouterr().err
    assert newest(tmp_path).name == "7"
    assert curve(tmp_path)[-1]["step"] == 7
    fit(small_run(tmp_path, loop=loop_config(STEPS, EVERY), batch_size=BATCH, devices=1))
    assert "Going on from step 7" in capfd.readouterr().err
    assert_same_end(whole, tmp_path)


def free_port():
    """A free port."""
    with socket.socket() as s:
        s.bind(("localhost", 0))
        return s.getsockname()[1]


def start_two(workdir, *words):
    port = free_port()
    return [start(workdir, *words, port, index) for index in range(2)]


def finish(workers, expected):
    for worker in workers:
        _, words = worker.communicate(timeout=120)
        assert worker.returncode == expected, words


@pytest.mark.slow
def test_two_processes_train_stop_and_resume_as_one(whole, tmp_path):
    """One of two processes gets SIGTERM: both save at the same step. Both are killed. The end is that of one process,
    bit for bit on two devices, and up to rounding on one."""
    workers = start_two(tmp_path, STEPS, 1000, SLOW)
    wait_for_step(tmp_path, 2, *workers)
    workers[1].send_signal(signal.SIGTERM)  # JAX's preemption service informs the other within a second or two
    finish(workers, 143)
    first = int(newest(tmp_path).name)
    assert 2 <= first < STEPS

    workers = start_two(tmp_path, STEPS, EVERY, QUICK)
    wait_for_step(tmp_path, min(first + 5, STEPS - 1), *workers)
    for worker in workers:
        worker.send_signal(signal.SIGKILL)
    for worker in workers:
        worker.communicate(timeout=60)
    assert not (tmp_path / "model").exists()
    finish(start_two(tmp_path, STEPS, EVERY, QUICK), 0)
    assert (tmp_path / "model" / "_METADATA").is_file()

    pair = tmp_path / "pair"
    fit(small_run(pair, loop=loop_config(STEPS, EVERY), batch_size=BATCH, devices=2))
    assert curve(tmp_path) == curve(pair)
    for a, b in zip(curve(whole), curve(pair), strict=True):
        assert a.keys() == b.keys()
        np.testing.assert_allclose(list(a.values()), list(b.values()), rtol=1e-5, atol=1e-6)  # norms near 0


@pytest.fixture
def file_limit():
    """Sets the largest file that this process may write, until the test is over."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_leaves_the_last_checkpoint(tmp_path, file_limit):
    """No file may grow beyond a limit: what the system then answers to a write is what a full disk answers."""
    mesh = make_mesh(devices=jax.devices()[:2])
    state, target = tiny_state(mesh, width=50_000)
    expected = jax.tree.map(np.asarray, state)
    checkpoints = Checkpoints(tmp_path, {}, keep_last=1)
    checkpoints.save(5, state)
    checkpoints.wait()
    file_limit(400_000)
    with pytest.raises(OutputError, match=r"\(File too large\); that of step 5 is intact: free some space"):
        save_and_wait(checkpoints, 15, state)
    checkpoints.abandon()
    assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["5"]
    again = Checkpoints(tmp_path, {})
    jax.tree.map(np.testing.assert_array_equal, again.restore(target).state, expected)
    again.close()


def save_and_wait(checkpoints, step, state):
    checkpoints.save(step, state)
    checkpoints.wait()


def tiny_state(mesh, width=8):
    objective = LinearObjective(width)
    optimisers = make_optimisers(small_optimiser(), objective.networks)
    state = init_state(objective, optimisers, jax.random.key(0), mesh)
    target = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state)
    return state, target


def test_another_config_is_refused_by_name(tmp_path):
    mesh = make_mesh(devices=jax.devices()[:2])
    state, target = tiny_state(mesh)
    settings = {"model": {"width": 8}, "optimiser": {"learning_rate": 2e-4, "milestones": (10, 20)}}
    checkpoints = Checkpoints(tmp_path, settings)
    checkpoints.save(3, state, data=b"3")
    checkpoints.close()
    for group, name, value in (("optimiser", "learning_rate", 1e-3), ("optimiser", "milestones", (10, 30))):
        other = {**settings, group: {**settings[group], name: value}}
        again = Checkpoints(tmp_path, other)
        with pytest.raises(CheckpointError, match=rf"made with {group}\.{name} = .*another work folder"):
            again.restore(target)
        again.close()
    regrouped = Checkpoints(tmp_path, {**settings, "optimiser": {"learning_rate": {"start": 2e-4}}})
    with pytest.raises(CheckpointError, match=r"made with other settings of optimiser\.learning_rate; take another"):
        regrouped.restore(target)
    regrouped.close()
    same = Checkpoints(tmp_path, settings)
    assert same.restore(target).data == b"3"
    same.close()


def test_first_difference_names_settings_that_one_side_lacks():
    assert first_difference({"a": {"b": 1}}, {"a": {"b": 1}}) is None
    assert first_difference({"a": {"b": 1}}, {"a": {"b": 1, "c": 2}}) == ("a.c", None, 2)
    assert first_difference({"a": 1, "z": 3}, {"a": 1}) == ("z", 3, None)


def test_the_latest_and_the_best_are_kept(tmp_path):
    state, target = tiny_state(make_mesh(devices=jax.devices()[:1]))
    checkpoints = Checkpoints(tmp_path, {}, keep_last=2, keep_best=1, best_metric="l1")
    for step, l1 in ((1, 0.5), (2, 0.2), (3, 0.4), (4, None), (5, 0.3), (6, None)):
        checkpoints.save(step, state, metrics=None if l1 is None else {"l1": l1, "psnr": -l1})
    checkpoints.wait()
    assert sorted(int(p.name) for p in (tmp_path / "checkpoints").iterdir()) == [2, 5, 6]
    checkpoints.close()
    again = Checkpoints(tmp_path, {}, keep_last=2, keep_best=1, best_metric="psnr", best_is="highest")
    assert (again.latest(), again.best(), again.metrics(2)) == (6, 2, {"l1": 0.2, "psnr": -0.2})
    assert again.restore(target, 2).step == 2
    again.close()


def test_async_save_holds_the_values_of_its_step(tmp_path):
    """The state is donated to the next step while it is being written."""
    mesh = make_mesh(devices=jax.devices()[:2])
    state, target = tiny_state(mesh, width=20_000)
    expected = np.asarray(state.variables["generator"]["params"]["up"]).copy()
    bump = jax.jit(lambda tree: jax.tree.map(lambda x: x + 1, tree), donate_argnums=0)
    checkpoints = Checkpoints(tmp_path, {})
    checkpoints.save(1, state)
    for _ in range(20):
        state = bump(state)
    jax.block_until_ready(state)
    saved = checkpoints.restore(target).state if not checkpoints.wait() else None
    np.testing.assert_array_equal(saved.variables["generator"]["params"]["up"], expected)
    checkpoints.close()


def test_damaged_and_missing_checkpoints_say_so(tmp_path):
    state, target = tiny_state(make_mesh(devices=jax.devices()[:1]))
    checkpoints = Checkpoints(tmp_path, {})
    with pytest.raises(CheckpointError, match="There is no checkpoint"):
        checkpoints.restore(target)
    checkpoints.save(1, state)
    checkpoints.close()
    for path in (tmp_path / "checkpoints" / "1" / "state").rglob("*"):
        if path.is_file() and path.stat().st_size > 100:
            path.write_bytes(path.read_bytes()[:50])
    again = Checkpoints(tmp_path, {})
    with pytest.raises(CheckpointError, match=r"Checkpoint 1 .* is damaged .*delete the folder"):
        again.restore(target)
    again.close()


def test_a_work_folder_that_cannot_be_made_is_an_output_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        Checkpoints(tmp_path / "file" / "run", {})


def test_state_is_one_tree_of_named_leaves():
    """Orbax stores every part of the state by name."""
    state, _ = tiny_state(make_mesh(devices=jax.devices()[:1]))
    names = {jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(state)}
    assert {".step", ".key", ".variables['generator']['params']['up']"} <= names
    assert isinstance(state, TrainState)
    assert LoopConfig().keep_last >= 1

"""Batches: independent of workers, processes and interruptions; unreadable pairs are replaced."""

import collections
import dataclasses
import json
import logging
import os
import pathlib
import signal
import subprocess
import sys
import time
from typing import Any

import numpy as np
import pytest

from avfr_jax.config import from_dict
from avfr_jax.errors import CheckpointError, ConfigError, InputError
from pipelines.loader import DataConfig, PairLoader, open_pairs
from tests.pipelines.prepared import CLIPS, SIZE, write_dataset

ROOT = pathlib.Path(__file__).resolve().parents[2]
Batch = dict[str, np.ndarray]


def make_config(path: pathlib.Path, **changes: Any) -> DataConfig:
    return DataConfig(
        path=str(path), **{"batch_size": 6, "size": SIZE, "repeats": 5, "threads": 2, "prefetch": 2} | changes
    )


def take(loader: PairLoader, count: int) -> list[Batch]:
    return [next(loader) for _ in range(count)]


def check_equal(left: list[Batch], right: list[Batch]) -> None:
    assert len(left) == len(right)
    for a, b in zip(left, right, strict=True):
        assert sorted(a) == sorted(b)
        for name in a:
            np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def shown(batch: Batch) -> list[tuple[int, int, int]]:
    """Clip and frames of each pair, decoded from the colours of `prepared`."""
    means = {name: batch[name][..., :2].astype(float).mean((1, 2)) for name in ("source", "driving")}
    clips = np.rint((means["source"][:, 0] - 20) / 40).astype(int)
    return list(
        zip(clips, *(np.rint((means[n][:, 1] - 20) / 15).astype(int) for n in ("source", "driving")), strict=True)
    )


def test_contents_of_batches(stored):
    plain = next(open_pairs(make_config(stored)))
    assert {name: (x.shape, x.dtype.name) for name, x in plain.items()} == {
        "source": ((6, SIZE, SIZE, 3), "uint8"),
        "driving": ((6, SIZE, SIZE, 3), "uint8"),
        "swapped": ((6,), "bool"),
    }
    full = next(open_pairs(make_config(stored, priors=True, landmarks=True, mel=True)))
    assert {name: (x.shape, x.dtype.name) for name, x in full.items() if name not in plain} == {
        "source_landmarks": ((6, 478, 3), "float32"),
        "driving_landmarks": ((6, 478, 3), "float32"),
        "mel": ((6, 80, 16), "float32"),
    }
    for name in ("source", "driving"):
        assert full[name].shape == (6, SIZE, SIZE, 5)
        np.testing.assert_array_equal(full[name][..., :3], plain[name])
    for (clip, first, second), swapped in zip(shown(full), full["swapped"], strict=True):
        assert first >= second if swapped else first <= second
        assert max(first, second) < list(CLIPS.values())[clip][1]


def test_epochs_are_balanced_and_differ(folder):
    loader = open_pairs(make_config(folder, batch_size=5, repeats=20))
    assert loader.batches_per_epoch == 12
    identities = [identity for identity, _ in CLIPS.values()]
    orders = []
    for epoch in range(3):
        assert loader.epoch == epoch
        order = [pair for batch in take(loader, 12) for pair in shown(batch)]
        assert set(collections.Counter(identities[clip] for clip, _, _ in order).values()) == {20}
        orders.append(order)
    assert orders[0] != orders[1] != orders[2]
    by_clip = open_pairs(make_config(folder, batch_size=5, repeats=20, balance="clip"))
    order = [pair for batch in take(by_clip, by_clip.batches_per_epoch) for pair in shown(batch)]
    assert set(collections.Counter(clip for clip, _, _ in order).values()) == {20}


def test_batches_are_independent_of_workers_and_interruptions(folder):
    config = make_config(folder, landmarks=True)
    alone = open_pairs(config)
    expected = take(alone, 9)
    assert alone.epoch == 4  # more than one epoch went by
    workers = open_pairs(dataclasses.replace(config, workers=2))
    check_equal(take(workers, 5), expected[:5])
    state = workers.state()
    check_equal(take(workers, 1), expected[5:6])
    workers.set_state(state)  # starts new workers
    check_equal(take(workers, 4), expected[5:])
    workers.close()
    for stop in (0, 3, 7):
        alone.set_state(json.dumps({**json.loads(state), "batches": stop}).encode())
        check_equal(take(alone, 9 - stop), expected[stop:])


def test_state_is_that_of_the_last_batch_returned(folder):
    loader = open_pairs(make_config(folder))
    take(loader, 4)
    state = loader.state()
    assert len(state) < 300
    assert json.loads(state.decode())["batches"] == 4
    assert loader.get_state() == state
    # It is valid for any number of processes.
    third = open_pairs(make_config(folder), process_index=2, process_count=3)
    third.set_state(state)
    check_equal(take(third, 2), [{k: x[4:] for k, x in batch.items()} for batch in take(loader, 2)])


@pytest.mark.parametrize("count", [2, 3])
def test_processes_share_each_batch(folder, count):
    whole = take(open_pairs(make_config(folder, mel=True)), 6)
    parts = [take(open_pairs(make_config(folder, mel=True), i, count), 6) for i in range(count)]
    together = [{name: np.concatenate([part[step][name] for part in parts]) for name in whole[0]} for step in range(6)]
    check_equal(together, whole)
    assert all(len(part[0]["source"]) == 6 // count for part in parts)


def test_state_through_orbax(folder, tmp_path):
    import grain
    import orbax.checkpoint as ocp

    loader = open_pairs(make_config(folder))
    take(loader, 3)
    with ocp.CheckpointManager(tmp_path / "run") as manager:
        manager.save(3, args=ocp.args.Composite(data=grain.checkpoint.CheckpointSave(loader)))
        manager.wait_until_finished()
        expected = take(loader, 2)
        other = open_pairs(make_config(folder))
        manager.restore(3, args=ocp.args.Composite(data=grain.checkpoint.CheckpointRestore(other)))
    check_equal(take(other, 2), expected)


def test_states_of_other_runs_are_refused(folder):
    state = open_pairs(make_config(folder)).state()
    with pytest.raises(CheckpointError, match=r"batch_size was 6 and is 3; seed was 0 and is 1"):
        open_pairs(make_config(folder, batch_size=3, seed=1)).set_state(state)
    with pytest.raises(CheckpointError, match="another config"):
        open_pairs(make_config(folder, exclude_clips=("ann-1",))).set_state(state)
    for broken in (b"", b"{}", b"[1]", b"\xff"):
        with pytest.raises(CheckpointError, match="data state is broken"):
            open_pairs(make_config(folder)).set_state(broken)
    open_pairs(make_config(folder, workers=3, threads=7, priors=True)).set_state(state)  # settings outside the order


def damage(path: pathlib.Path, clip: str, frames: range) -> None:
    for frame in frames:
        file = path / "clips" / clip / "frames" / f"{frame:06d}.jpg"
        file.write_bytes(file.read_bytes()[:-40])


def test_a_corrupt_frame_is_replaced_counted_and_logged(tmp_path, folder, caplog):
    path = write_dataset(tmp_path / "data")
    damage(path, "bob-1", range(4, 5))
    config = make_config(path, repeats=20)
    whole = take(open_pairs(dataclasses.replace(config, path=str(folder))), 10)
    loader = open_pairs(config)
    with caplog.at_level(logging.WARNING, "pipelines"):
        batches = take(loader, 10)
    pairs = list(zip(*([pair for batch in run for pair in shown(batch)] for run in (whole, batches)), strict=True))
    bob = list(CLIPS).index("bob-1")
    hit = [clip == bob and 4 in frames for (clip, *frames), _ in pairs]
    assert 0 < sum(hit) <= loader.skipped < 10
    for was_hit, (before, after) in zip(hit, pairs, strict=True):
        if was_hit:
            assert after[0] == bob  # another pair of the same person
            assert 4 not in after[1:]
        else:
            assert after == before
    warnings = [record.getMessage() for record in caplog.records]
    assert len(warnings) == 1  # once for each frame
    assert "skipped clip bob-1 frame 4: its JPEG is broken" in warnings[0]
    again = open_pairs(config)
    again.set_state(open_pairs(config).state())
    check_equal(take(again, 10), batches)
    assert json.loads(loader.state())["skipped"] == loader.skipped


def test_too_many_corrupt_frames_fail_the_run(tmp_path):
    path = write_dataset(tmp_path / "data")
    damage(path, "cy-1", range(7))
    loader = open_pairs(make_config(path, repeats=40))
    with pytest.raises(InputError, match=r"cannot be read.* clips cy-1 \(the first: clip cy-1 frame \d, its JPEG") as e:
        take(loader, 60)
    assert "\n" not in str(e.value)
    assert loader.skipped > 20  # a hundredth of the window of 2000 draws
    patient = open_pairs(make_config(path, repeats=40, max_corrupt=1.0))
    clips = {clip for batch in take(patient, 20) for clip, _, _ in shown(batch)}
    assert list(CLIPS).index("cy-1") not in clips  # after a few attempts, another identity


def test_nothing_readable_fails_at_once(tmp_path):
    path = write_dataset(tmp_path / "data")
    for clip, (_, frames) in CLIPS.items():
        damage(path, clip, range(frames))
    with pytest.raises(InputError, match="cannot be read"):
        next(open_pairs(make_config(path, max_corrupt=1.0)))


def test_old_failures_leave_the_window(tmp_path, monkeypatch):
    """The share of failures is that of a window."""
    monkeypatch.setattr("pipelines.loader.WINDOW", 60)
    path = write_dataset(tmp_path / "data")
    loader = open_pairs(make_config(path, max_corrupt=0.1))
    for _ in range(20):  # 80 failures in all, never more than 6 in 60 draws
        loader._account([("ann-1", 0, "broken")] * 4)
        for _ in range(10):
            loader._account([])
    assert loader.skipped == 80
    loader._account([("ann-1", 0, "broken")] * 4)
    with pytest.raises(InputError, match="8 of the last"):
        loader._account([("ann-1", 0, "broken")] * 4)


def test_bad_settings(folder, tmp_path):
    with pytest.raises(ConfigError, match="batch_size 6 cannot be divided over 4 processes; choose a multiple of 4"):
        open_pairs(make_config(folder), 0, 4)
    with pytest.raises(ConfigError, match="no process 2 of 2"):
        open_pairs(make_config(folder), 2, 2)
    with pytest.raises(ConfigError, match=r"has 15 pairs, less than data\.batch_size 16; raise data\.repeats"):
        open_pairs(make_config(folder, batch_size=16))
    with pytest.raises(InputError, match="are 32 x 32; they cannot be read at 256 x 256"):
        open_pairs(make_config(folder, size=256))
    with pytest.raises(ConfigError, match=r"data\.workers must be a whole number from 0, not -1"):
        make_config(folder, workers=-1)
    with pytest.raises(ConfigError, match="has no setting 'batchsize'; did you mean 'batch_size'"):
        from_dict(DataConfig, {"batchsize": 3})
    listing = json.loads((folder / "dataset.json").read_text())
    (tmp_path / "clips").symlink_to(folder / "clips")
    (tmp_path / "dataset.json").write_text(json.dumps(listing | {"priors": False}))
    with pytest.raises(InputError, match="prepared without priors"):
        open_pairs(make_config(tmp_path, priors=True))


def test_workers_outlive_signals_but_not_their_parent(folder):
    """A scheduler's SIGTERM reaches them too, and the run still needs batches before it has saved; kill -9 of the run
    must not leave them behind."""
    code = f"""
import multiprocessing, sys
from pipelines.loader import DataConfig, open_pairs
loader = open_pairs(DataConfig({str(folder)!r}, batch_size=3, size={SIZE}, workers=1))
next(loader)
print(*(child.pid for child in multiprocessing.active_children()), flush=True)
sys.stdin.readline()
for _ in range(20):
    next(loader)
print("still there", flush=True)
sys.stdin.readline()
"""
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as run:
        assert run.stdin is not None
        assert run.stdout is not None
        workers = [int(pid) for pid in run.stdout.readline().split()]
        assert workers
        for pid in workers:
            os.kill(pid, signal.SIGTERM)
            os.kill(pid, signal.SIGINT)
        run.stdin.write("\n")
        run.stdin.flush()
        assert run.stdout.readline() == "still there\n"
        run.kill()
    end = time.monotonic() + 10
    while any(alive(pid) for pid in workers) and time.monotonic() < end:
        time.sleep(0.05)
    assert not any(alive(pid) for pid in workers)


def alive(pid: int) -> bool:
    """Whether a process runs (one that ended and that nobody waits for does not)."""
    try:
        return "Z" not in pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False


def test_little_shared_memory(folder, monkeypatch, caplog):
    loader = open_pairs(make_config(folder, workers=1))
    assert loader._smallest_shared() == 2**16
    monkeypatch.setattr("shutil.disk_usage", lambda path: collections.namedtuple("Usage", "free")(1000))
    with caplog.at_level(logging.WARNING, "pipelines"):
        assert loader._smallest_shared() > 2**40
    assert "through pipes" in caplog.text


# The clip of one frame has nothing between.
LONG = {"exclude_clips": ("ann-3",)}


def numbers(batch: Batch, name: str) -> np.ndarray:
    """Number of each frame, read from its colour."""
    return np.rint((batch[name][..., 1].astype(float).mean((1, 2)) - 20) / 15).astype(int)


def test_triplets_hold_the_frame_halfway(stored):
    config = make_config(stored, frames="triplet", spans=(2, 4), **LONG)
    batches = take(open_pairs(config), 5)
    assert sorted(batches[0]) == ["between", "driving", "source", "swapped"]
    distances = set()
    for batch in batches:
        source, between, driving = (numbers(batch, name) for name in ("source", "between", "driving"))
        np.testing.assert_array_equal(2 * between, source + driving)
        np.testing.assert_array_equal(source > driving, batch["swapped"])
        distances |= set(np.abs(source - driving).tolist())
    assert distances == {2, 4}
    # The same pairs with another number of frames of each; so one state serves both.
    pairs = open_pairs(make_config(stored, spans=(2, 4), **LONG))
    check_equal([{k: x for k, x in batch.items() if k != "between"} for batch in batches], take(pairs, 5))
    state = pairs.state()
    again = open_pairs(config)
    again.set_state(state)
    assert again.epoch == pairs.epoch
    with pytest.raises(CheckpointError, match=r"spans was \[2, 4\] and is None"):
        open_pairs(make_config(stored, **LONG)).set_state(state)
    with pytest.raises(CheckpointError, match=r"spans was None and is \[2, 4\]"):
        again.set_state(open_pairs(make_config(stored, **LONG)).state())


def test_single_frames_are_the_driving_ones_of_the_pairs(folder):
    singles = take(open_pairs(make_config(folder, frames="single", landmarks=True)), 3)
    assert sorted(singles[0]) == ["driving", "driving_landmarks", "swapped"]
    pairs = take(open_pairs(make_config(folder, landmarks=True)), 3)
    check_equal(singles, [{name: batch[name] for name in singles[0]} for batch in pairs])


def test_bad_triplets(folder):
    with pytest.raises(ConfigError, match=r"Triplets need data\.spans of even numbers of frames, not \[\]"):
        make_config(folder, frames="triplet")
    with pytest.raises(ConfigError, match=r"not \[2, 3\]"):
        make_config(folder, frames="triplet", spans=(2, 3))
    with pytest.raises(ConfigError, match=r"data\.spans must be at least 1"):
        make_config(folder, spans=(0,))
    with pytest.raises(InputError, match=r"1 clips of .* have fewer than 3 frames.* the first ann-3; exclude them"):
        open_pairs(make_config(folder, frames="triplet", spans=(4, 2)))

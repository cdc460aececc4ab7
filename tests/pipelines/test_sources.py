"""Reading prepared datasets: both storages are equal, and each fault has its own message."""

import dataclasses
import json
import pathlib
import shutil

import cv2
import numpy as np
import pytest

from avfr_jax.errors import AvfrError, ConfigError, InputError
from avfr_jax.media import mel as mel_scale
from pipelines.loader import DataConfig, choose_clips
from pipelines.sources import CorruptFrameError, open_dataset
from tests.pipelines.prepared import CLIPS, SIZE, clip_arrays, frame_files, write_dataset, write_listing

EVERYTHING = ("image", "priors", "landmarks", "mel")


def test_both_storages_return_the_prepared_frames(stored):
    dataset = open_dataset(stored)
    assert dataset.identities == ("ann", "bob", "cy")
    assert dataset.frames == sum(frames for _, frames in CLIPS.values())
    for number, clip in enumerate(dataset.clips):
        arrays = clip_arrays(number, clip.frames)
        for index in range(clip.frames):
            frame = dataset.read_frame(clip, index, EVERYTHING)
            files = frame_files(number, index)
            picture = cv2.imdecode(np.frombuffer(files["image"], np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
            np.testing.assert_array_equal(frame["image"][..., :3], picture)
            assert abs(float(frame["image"][..., 0].mean()) - (20 + 40 * number)) < 2  # red is first
            assert (frame["image"][..., 3] == 3 * index).all()
            np.testing.assert_array_equal(frame["image"][:, 0, 4], 255 * (np.arange(SIZE) >= SIZE // 4))
            pixels = ((frame["landmarks"] + [1, 1, 0]) * SIZE - [1, 1, 0]) / 2
            np.testing.assert_allclose(pixels, arrays["landmarks"][index], atol=1e-4)
            silent = number == len(CLIPS) - 1
            window = mel_scale.silence() if silent else mel_scale.mel_window(arrays["mel"], index)
            np.testing.assert_array_equal(frame["mel"], window)
            assert {name: x.dtype.name for name, x in frame.items()} == {
                "image": "uint8",
                "landmarks": "float32",
                "mel": "float32",
            }
            assert dataset.read_frame(clip, index)["image"].shape == (SIZE, SIZE, 3)


def test_selection(folder):
    dataset = open_dataset(folder)

    def names(**chosen: list[str]) -> list[str]:
        return [clip.name for clip in dataset.select(**chosen).clips]

    assert names() == list(CLIPS)
    assert names(identities=["ann"]) == ["ann-1", "ann-2", "ann-3"]
    assert names(identities=["cy"], clips=["ann-2"]) == ["ann-2", "cy-1"]
    assert names(exclude_identities=["ann"]) == ["bob-1", "cy-1"]
    assert names(identities=["ann"], exclude_clips=["ann-1"]) == ["ann-2", "ann-3"]
    assert dataset.select(identities=["ann"]).digest() != dataset.digest() == open_dataset(folder).digest()
    with pytest.raises(ConfigError, match="has no identity 'anne'; did you mean 'ann'"):
        dataset.select(exclude_identities=["anne"])
    with pytest.raises(ConfigError, match="has no clip 'bob-2'; did you mean 'bob-1'"):
        dataset.clip("bob-2")
    with pytest.raises(InputError, match=r"No clip of .* is left"):
        dataset.select(identities=["ann"], exclude_identities=["ann"])


def check_sentence(path: pathlib.Path, kind: type[AvfrError], pattern: str) -> None:
    with pytest.raises(kind, match=pattern) as error:
        open_dataset(path)
    assert "\n" not in str(error.value)
    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    ("change", "pattern"),
    [
        ({"format": "other"}, "does not describe a prepared clip dataset"),
        ({"version": 2}, "version 2; this program reads version 1"),
        ({"clips": []}, "has no clips"),
        ({"storage": "tar"}, "storage 'tar'"),
        ({"clips": [{"name": "x", "identity": "y"}]}, "lacks something"),
        ({"clips": [{"name": "x", "identity": "y", "frames": "3"}]}, r"a clip\.frames must be int"),
        ({"clips": [{"name": "x", "identity": "y", "frames": 0}]}, "clip x with 0 frames"),
        ({"clips": [{"name": "x", "identity": "y", "frames": 1}] * 2}, "two clips of the same name"),
        ({"clips": [{"name": "x", "identity": "y", "frames": 1}]}, "lacks 1 of the 1 clips .* the first x"),
        ({"clips": 3}, "lacks something"),
    ],
)
def test_broken_listings(tmp_path, change, pattern):
    write_listing(tmp_path, **{"clips": [], **change})
    check_sentence(tmp_path, InputError, pattern)


def test_missing_things(tmp_path, stored):
    check_sentence(tmp_path / "nowhere", InputError, "no dataset folder")
    check_sentence(tmp_path, InputError, r"has no dataset\.json")
    (tmp_path / "dataset.json").write_text("{")
    check_sentence(tmp_path, InputError, "cannot be read")
    if stored.name == "arrayrecord":
        copy = shutil.copytree(stored, tmp_path / "copy")
        shard = copy / "shard-00001.arrayrecord"
        whole = shard.read_bytes()
        shard.unlink()
        check_sentence(copy, InputError, "shard-00001.arrayrecord is missing")
        cut = shutil.copytree(stored, tmp_path / "cut")
        (cut / shard.name).write_bytes(whole[: len(whole) // 2])
        check_sentence(cut, InputError, "shard-00001.arrayrecord (cannot be read|is cut short)")
        short = shutil.copytree(stored, tmp_path / "short")
        listing = json.loads((short / "dataset.json").read_text())
        listing["clips"][-1]["frames"] += 5
        (short / "dataset.json").write_text(json.dumps(listing))
        check_sentence(short, InputError, "cut short: [0-9]+ records of [0-9]+")


@pytest.mark.parametrize(
    ("file", "damage", "reason"),
    [
        ("frames/000001.jpg", lambda data: data[: len(data) // 2], "JPEG is broken"),
        ("frames/000001.jpg", lambda data: b"", "JPEG is broken"),
        ("frames/000001.jpg", None, r"frames/000001\.jpg: No such file"),
        ("frames/000001.jpg", lambda data: frame_files(0, 0, 16)["image"], "16 x 16, not 32 x 32"),
        ("mesh/000001.png", lambda data: data[:-20], "mesh PNG is broken"),
        ("mask/000001.png", lambda data: frame_files(0, 0, 16)["mask"], "mask is 16 x 16"),
        ("landmarks.npy", lambda data: data[:200], r"landmarks\.npy cannot be read"),
        ("mel.npy", None, r"mel\.npy cannot be read"),
    ],
)
def test_corrupt_frames(tmp_path, file, damage, reason):
    dataset = open_dataset(write_dataset(tmp_path / "data"))
    clip = dataset.clips[0]
    path = tmp_path / "data" / "clips" / clip.name / file
    if damage is None:
        path.unlink()
    else:
        path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(CorruptFrameError, match=reason):
        dataset.read_frame(clip, 1, EVERYTHING)
    dataset.read_frame(dataset.clips[1], 1, EVERYTHING)


def test_concatenated_datasets(tmp_path):
    ours = write_dataset(tmp_path / "ours")
    more = write_dataset(tmp_path / "more", "arrayrecord", {"dee-1": ("dee", 4), "ann-4": ("ann", 6)})
    config = DataConfig(path=f"{ours}, {more}", size=SIZE, exclude_clips=("bob-1",))
    joined = choose_clips(config)
    assert joined.identities == ("ann", "cy", "dee")
    assert joined.frames == 9 + 5 + 1 + 7 + 4 + 6
    read = joined.read_frame(joined.clip("ann-4"), 3, ("image", "landmarks"))
    halved = choose_clips(dataclasses.replace(config, size=SIZE // 2))
    small = halved.read_frame(halved.clip("ann-4"), 3, ("priors", "image", "landmarks"))
    assert small["image"].shape == (SIZE // 2, SIZE // 2, 5)
    means = read["image"].reshape(SIZE // 2, 2, SIZE // 2, 2, 3).mean((1, 3))
    np.testing.assert_allclose(small["image"][..., :3], means, atol=1)
    np.testing.assert_array_equal(small["landmarks"], read["landmarks"])
    with pytest.raises(InputError, match="no multiple"):
        choose_clips(dataclasses.replace(config, size=SIZE - 2))
    part = open_dataset(more)
    np.testing.assert_array_equal(read["image"], part.read_frame(part.clip("ann-4"), 3)["image"])
    with pytest.raises(InputError, match="both have a clip ann-1"):
        choose_clips(DataConfig(path=f"{ours},{ours}", size=SIZE))
    small = write_dataset(tmp_path / "small", clips={"eve-1": ("eve", 3)})
    listing = json.loads((small / "dataset.json").read_text())
    (small / "dataset.json").write_text(json.dumps({**listing, "fps": 30.0}))
    with pytest.raises(InputError, match="prepare them alike"):
        choose_clips(DataConfig(path=f"{ours},{small}", size=SIZE))

import dataclasses
import json
import re

import cv2
import numpy as np
import pytest

from avfr_jax.codec.byte_tables import ByteTables, half_bytes
from avfr_jax.codec.settings import FOR_CALLS
from avfr_jax.faces.pose import rotation_from_angles
from avfr_jax.landmarks import canonical_face
from avfr_jax.motion import HeadMotion, HeadSpec
from avfr_jax.ops.rotations import euler_to_matrix
from experiments import head_rates
from experiments.head_rates import by_codec, by_tables, main
from experiments.head_tracks import Track, choose_points, head_of, split
from tests.codec.stubs import CountedHead, Mover


def _meshes(frames: int, phase: float) -> np.ndarray:
    """A face in [-1, 1] that turns and opens its mouth."""
    face = canonical_face().astype(np.float64)
    face = face / np.abs(face[:, :2]).max() * 0.6
    out = []
    for swing in np.sin(np.arange(frames) / 5 + phase):
        points = face.copy()
        points[17] += [0, 0.1 * swing, 0]  # a point of the lower lip
        out.append(points @ rotation_from_angles(20 * swing, 5 * swing, 0.0).T + [0.05 * swing, 0, 0])
    return np.stack(out)


def test_pose_and_expression_compose_to_the_mesh():
    meshes = _meshes(20, 0.3)
    head = head_of("a", meshes)
    points = [17, 1, 33]
    numbers = head.numbers(points).astype(np.float32)
    assert np.abs(head.rest[0]).max() < 1e-6  # the first frame is the person's own
    turns = np.asarray(euler_to_matrix(*numbers[:, :3].T))
    still = (meshes[0] - head.pose[0, 3:]) @ turns[0]
    heads = HeadMotion(np.repeat(still[None, points], 20, 0), turns, numbers[:, 3:6], numbers[:, 6:].reshape(20, 3, 3))
    np.testing.assert_allclose(heads.positions, meshes[:, points], atol=1e-4)
    assert np.ptp(numbers[:, 0]) > 25  # degrees of yaw
    left = np.abs(head.rest).max((0, 2))
    assert left[17] > 2 * np.median(left)


def test_points_are_ordered_by_the_expression_that_they_explain():
    heads = [head_of("a", _meshes(30, phase)) for phase in (0.0, 1.0)]
    rng, rest = np.random.default_rng(0), np.zeros((300, 478, 3))
    rest[:, 17, 1] = 3 * (one := rng.normal(size=300))
    rest[:, 18, 1] = 2.9 * one  # explained by point 17
    rest[:, 40, 0] = 2 * rng.normal(size=300)
    rest[:, 61, 2] = rng.normal(size=300)
    assert choose_points([dataclasses.replace(heads[0], rest=rest)], 3) == [17, 40, 61]
    chosen = choose_points(heads, 5)
    assert chosen[0] == 17
    assert len(set(chosen)) == 5


def _folds():
    rng = np.random.default_rng(0)
    size = np.array([5, 5, 5, 0.1, 0.1, 0.1, *[0.1] * 3, *[0.001] * 9])
    fitted, tested = (np.cumsum(rng.normal(size=(200, 18)), 0) / 5 * size for _ in range(2))
    tested[::10, 9:] = 0.2  # every tenth frame needs all
    return [([fitted], [tested])]


def test_the_coder_of_the_paper_is_that_of_the_tables_and_counts_are_prefixes():
    folds, spec = _folds(), HeadSpec(4, 1)
    whole, some = by_tables(spec, folds), by_tables(spec, folds, 8.0)
    tables, data = ByteTables.fit(half_bytes(folds[0][0][0])), half_bytes(folds[0][1][0])
    np.testing.assert_array_equal(whole.sizes, [len(tables.encode(frame)) for frame in data])
    assert (whole.before, whole.keypoints) == (36, 4)
    assert whole.error < 0.1
    assert some.before == pytest.approx(12 + 6 * some.keypoints)
    np.testing.assert_array_equal(some.sizes[::10], whole.sizes[::10])
    assert some.sizes[5] < whole.sizes[5]
    row = whole.row("x")
    assert row[:4] == ["x", "4.00", "36.00", f"{whole.sizes.mean():.2f}"]
    assert float(row[7]) == pytest.approx(whole.sizes.mean() * 8 / 512**2, abs=1e-6)


def test_our_coder_costs_more_the_finer_it_is_and_less_with_fewer_keypoints():
    folds, spec = _folds(), HeadSpec(4, 1)
    fine = dataclasses.replace(FOR_CALLS, keypoint_step=-16)
    coarse, precise = by_codec(spec, folds, FOR_CALLS, 1), by_codec(spec, folds, fine, 1)
    assert coarse.sizes.sum() < precise.sizes.sum()
    assert precise.error < 0.1 < coarse.error < 0.6
    assert len(coarse.sizes) == coarse.frames == 200
    counted = by_codec(spec, folds, FOR_CALLS, 1, 8.0)
    assert counted.keypoints < 2.5
    packets = by_codec(spec, folds, FOR_CALLS, 3)
    assert len(packets.sizes) == 67
    assert packets.row("x")[4:7] == [""] * 3
    assert packets.error == coarse.error


def test_tables_are_counted_on_other_people():
    clips = [Track(person, np.zeros((1, 9))) for person in "abcab"]
    folds = split(clips, [])
    assert len(folds) == 2
    for own, others in folds:
        assert not {clip.identity for clip in own} & {clip.identity for clip in others}
    assert sum(len(others) for _, others in folds) == 5
    assert split(clips[:2], clips[2:]) == [(clips[2:], clips[:2])]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Clips of two people."""
    folder, listing = tmp_path_factory.mktemp("heads"), []
    for name, phase in (("a", 0.0), ("b", 1.0)):
        inside = folder / "clips" / name
        (inside / "frames").mkdir(parents=True)
        np.save(
            inside / "landmarks.npy",
            ((_meshes(12, phase) + np.array([1, 1, 0])) * 16 - [0.5, 0.5, 0]).astype(np.float32),
        )
        for i in range(12):
            cv2.imwrite(str(inside / f"frames/{i:06d}.jpg"), np.full((32, 32, 3), 20 * i + 10 * phase, np.uint8))
        listing.append({"name": name, "identity": name, "frames": 12, "missing_faces": 0})
    facts = {"format": "avfr-clips", "version": 1, "storage": "folder", "size": 32, "fps": 25, "priors": False}
    (folder / "dataset.json").write_text(json.dumps(facts | {"clips": listing}))
    return folder


def test_the_command(prepared, monkeypatch, capsys):
    assert main([str(prepared), "--keypoints", "4", "--thresholds", "2"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("stand-in from the face mesh, 4 points; 2 clips, 24 frames")
    table = {line.split(" | ")[0].strip("| "): line.split(" | ")[1:] for line in re.findall(r"^\| .*", out, re.M)[2:]}
    assert list(table) == [
        "half-precision bytes", "byte tables (C.1)", "the same, count by 2 px (C.2)", "ours, call, steps of 1/16 px",
        "ours, call, steps of 1/2 px", "the same, count by 2 px", "ours, call, 3 frames a packet", "ours, file",
    ]  # fmt: skip
    assert table["half-precision bytes"][1:4] == ["36.00", "36.00", "36"]
    assert float(table["ours, file"][2]) < float(table["byte tables (C.1)"][2])

    monkeypatch.setattr(head_rates, "load_model", lambda name: CountedHead())
    assert main([str(prepared), "--model", "counted-head", "--frames", "7", "--fit", str(prepared)]) == 0
    out = capsys.readouterr().out
    assert out.startswith("counted-head; 2 clips, 14 frames")
    lost = [float(row[2]) for row in re.findall(r"^\| (all|count by \d+ px) \| ([\d.]+) \| ([\d.-]+) \|$", out, re.M)]
    assert (len(lost), lost[0]) == (4, 0)
    assert lost[1] != 0  # the stub shows the number of keypoints
    monkeypatch.setattr(head_rates, "load_model", lambda name: Mover())
    assert main([str(prepared), "--model", "mover"]) == 2
    assert "motion of mover is not a head's" in capsys.readouterr().err


def test_bad_input(prepared, tmp_path, capsys):
    assert main([str(tmp_path)]) == 2
    assert "no dataset.json" in capsys.readouterr().err
    content = json.loads((prepared / "dataset.json").read_text())
    (tmp_path / "clips").symlink_to(prepared / "clips")
    (tmp_path / "dataset.json").write_text(json.dumps(content | {"clips": content["clips"][:1]}))
    assert main([str(tmp_path)]) == 2
    assert "other people" in capsys.readouterr().err
    for words in (["--keypoints", "0"], ["--thresholds", "1,x"], ["--thresholds=-1"]):
        with pytest.raises(SystemExit):
            main([str(tmp_path), *words])

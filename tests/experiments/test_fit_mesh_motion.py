import json

import numpy as np

from avfr_jax.codec import mesh_basis as mesh
from experiments.fit_mesh_motion import clips, fit, main


def _tracks(count: int = 3, frames: int = 50) -> list[np.ndarray]:
    """Slightly different faces that move in five directions."""
    random = np.random.default_rng(0)
    ways = random.normal(size=(5, mesh.POINTS, 3))
    mean = mesh.shipped().mean.astype(np.float64)
    tracks = []
    for _ in range(count):
        amounts = np.cumsum(random.normal(size=(frames, 5)), 0)
        tracks.append(mean + random.normal(size=(1, 1, 3)) * 3 + np.einsum("tw,wpd->tpd", amounts, ways))
    return tracks


def test_the_components_span_the_fitted_motion():
    tracks = _tracks()
    space = fit(tracks)
    np.testing.assert_allclose(space.motion @ space.motion.T, np.eye(mesh.MOTIONS), atol=5e-3)
    track = tracks[0].astype(np.float32)
    # Five ways and their mirror images are ten.
    held = space.moved(track[0], space.motion_of(track, track[0], 10))
    assert np.abs(held - track).mean() < 0.02 * np.abs(track - track[0]).mean()
    assert (space.levels[0, :8] > space.levels[1, :8]).all()  # prediction leaves less than there was
    assert space.levels[0, 10:].max() < space.levels[0, :10].min()


def test_the_command(tmp_path, capsys):
    data = tmp_path / "data"
    for i, track in enumerate(_tracks()):
        (data / "clips" / f"c{i}").mkdir(parents=True)
        np.save(data / "clips" / f"c{i}" / "landmarks.npy", (track / 2).astype(np.float32))
    (data / "dataset.json").write_text(json.dumps({"size": 128}))
    assert main([str(data), str(tmp_path / "out.npz")]) == 0
    assert mesh.load(tmp_path / "out.npz").identity == mesh.load(tmp_path / "out.npz").identity
    np.testing.assert_allclose(clips(data)[0], _tracks()[0], atol=1e-3)
    assert main([str(tmp_path / "nowhere"), str(tmp_path / "other.npz")]) == 2
    assert "not a prepared dataset" in capsys.readouterr().err
    assert not (tmp_path / "other.npz").exists()

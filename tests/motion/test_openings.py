"""Lips and lids of another face: absolute between shut and open."""

import jax
import numpy as np
import pytest

from avfr_jax.landmarks import (
    APERTURES,
    LEFT_EYE_LOWER,
    LEFT_EYE_UPPER,
    LIPS,
    MOUTH_CORNERS,
    MOUTH_LOWER,
    MOUTH_UPPER,
    RIGHT_EYE_LOWER,
    RIGHT_EYE_UPPER,
    canonical_face,
    mirror_indices,
    mouth_opening,
)
from avfr_jax.motion import FaceMesh
from avfr_jax.motion.openings import close_lips, lid_levels, transfer_shape
from experiments import fit_openings

_LIDS = ((RIGHT_EYE_UPPER, RIGHT_EYE_LOWER), (LEFT_EYE_UPPER, LEFT_EYE_LOWER))
_transfer = jax.jit(transfer_shape)


def gaps(shape, edges=(MOUTH_UPPER, MOUTH_LOWER)):
    upper, lower = (np.asarray(shape)[:, list(edge)[1:-1]] for edge in edges)
    return (lower - upper)[..., 1]


def face(mouth=0.0, lids=(0.3, 0.3), seed=0):
    """A person's face in its head's frame, `[1, 478, 3]`: gaps of the lips (head units) and lids (eye widths)."""
    rng = np.random.default_rng(seed)
    shape = np.array(FaceMesh.from_landmarks(canonical_face()[None] * rng.uniform(0.9, 1.1, 3)).shape)
    shape = np.array(close_lips(shape - gaps(shape)[0, 4] * mouth_opening())) + mouth * mouth_opening()
    for (upper, lower), opening in zip(_LIDS, lids, strict=True):
        width = np.linalg.norm(shape[0, upper[0]] - shape[0, upper[-1]])
        form = np.sin(np.linspace(0, np.pi, 9))[1:-1]
        shape[0, list(lower)[1:-1], 1] = shape[0, list(upper)[1:-1], 1] + opening * width * form / form[2:5].mean()
    return shape.astype(np.float32)


def opening(shape, edges):
    width = np.linalg.norm(np.asarray(shape)[:, edges[0][0]] - np.asarray(shape)[:, edges[0][-1]], axis=-1)
    return gaps(shape, edges)[:, 2:5].mean(1) / width


@pytest.mark.parametrize("source_mouth", [0.0, 0.3])
@pytest.mark.parametrize("reference_mouth", [0.0, 0.3])
def test_lips_are_as_far_apart_as_the_drivers_whatever_the_reference(source_mouth, reference_mouth):
    driving = np.concatenate([face(opening, seed=1) for opening in (0.0, 0.1, 0.4)])
    out = _transfer(face(source_mouth), driving, face(reference_mouth, seed=1))
    np.testing.assert_allclose(gaps(out)[0], 0, atol=1e-5)
    np.testing.assert_allclose(gaps(out), gaps(driving), atol=1e-4)


def test_an_open_mouth_is_shut_by_the_jaw():
    ours, shut = face(0.4), face(0.0)
    out = np.asarray(_transfer(ours, face(0.0, seed=1), face(0.0, seed=1)))
    np.testing.assert_allclose(out, shut, atol=2e-3)
    assert np.abs(ours - shut)[0, 152].max() > 0.1  # the chin


def test_the_rest_moves_by_change():
    ours, initial = face(0.2), face(0.1, seed=1)
    driving = initial.copy()
    smile = np.float32([0, -0.1, 0])
    driving[:, list(MOUTH_CORNERS)] += smile
    driving[:, 105] += smile  # a brow
    moved = np.asarray(_transfer(ours, driving, initial) - _transfer(ours, initial, initial))
    for point in (*MOUTH_CORNERS, 105):
        np.testing.assert_allclose(moved[0, point], smile, atol=1e-6)
    still = np.setdiff1d(np.arange(478), [*MOUTH_CORNERS, 105])
    np.testing.assert_allclose(moved[0, still], 0, atol=1e-6)


@pytest.mark.parametrize(("mouth", "lids"), [(0.0, (0.3, 0.25)), (0.008, (0.04, 0.08)), (0.2, (0.0, 0.3))])
def test_a_face_driven_from_its_own_picture_is_the_driving_face(mouth, lids):
    initial = face(mouth, lids)
    driving = np.concatenate([initial, face(0.01, (0.02, 0.5)), face(0.3, (0.15, 0.01))])
    np.testing.assert_allclose(_transfer(initial, driving, initial), driving, atol=1e-6)


@pytest.mark.parametrize("lids", [(0.3, 0.3), (0.0, 0.0), (0.2, 0.0)])
@pytest.mark.parametrize("reference", [(0.26, 0.26), (0.0, 0.26)])
def test_lids_shut_and_open_whatever_source_and_reference_show(lids, reference):
    driving = np.concatenate([face(lids=(o, o), seed=1) for o in (0.0, 0.13, 0.26)])
    out = _transfer(face(lids=lids), driving, face(lids=reference, seed=1))
    for edges, ours in zip(_LIDS, lids, strict=True):
        np.testing.assert_allclose(gaps(out, edges)[0], 0, atol=1e-5)
        rest = ours or 0.26  # a shut eye opens as the driver's, or a usual one
        np.testing.assert_allclose(opening(out, edges)[1:], [rest / 2, rest], rtol=0.02)


def test_the_reference_or_a_usual_eye_gives_it():
    driving = np.concatenate([face(lids=(o, o), seed=1) for o in (0.13, 0.26)])
    for reference in (0.26, 0.0):
        out = _transfer(face(lids=(0.2, 0.2)), driving, face(lids=(reference, 0.26), seed=1))
        np.testing.assert_allclose(opening(out, _LIDS[0]), [0.1, 0.2], rtol=0.02)


@pytest.mark.parametrize("reference", [0.0, 0.1, 0.16, 0.22])
def test_narrow_eyes_at_rest_open_the_sources_as_far_as_they_were_whatever_the_reference(reference):
    driving = np.concatenate([face(lids=(o, o), seed=1) for o in [0.16] * 7 + [0.0, 0.02, 0.1]])
    levels = lid_levels(driving)
    np.testing.assert_allclose(levels, 0.16, atol=1e-3)
    out = _transfer(face(), driving, face(lids=(reference, reference), seed=1), levels)
    for edges in _LIDS:
        np.testing.assert_allclose(opening(out, edges)[[0, 7]], [0.3, 0.0], atol=6e-3)


def test_the_picture_itself_is_unchanged_by_the_level():
    initial = face(lids=(0.1, 0.3))
    driving = np.concatenate([initial, face(lids=(0.2, 0.0))])
    np.testing.assert_allclose(_transfer(initial, driving, initial, np.float32([0.25, 0.25])), driving, atol=1e-5)


def test_lids_opened_wide_do_not_multiply():
    driving = face(lids=(0.45, 0.45), seed=1)
    out = _transfer(face(lids=(0.3, 0.3)), driving, face(lids=(0.15, 0.15), seed=1))
    assert 0.45 < opening(out, _LIDS[0])[0] < 0.65  # not 0.9


def test_noise_about_shut_lips_is_suppressed_smoothly():
    noise = np.linspace(-0.01, 0.06, 71, dtype=np.float32)
    driving = np.concatenate([face(0.0, seed=1)] * len(noise))
    for upper, lower in zip(MOUTH_UPPER[1:-1], MOUTH_LOWER[1:-1], strict=True):
        driving[:, lower, 1] = driving[:, upper, 1] + noise
    out = gaps(_transfer(face(0.2), driving, face(0.1, seed=1)))
    assert np.abs(out[noise < 0.005]).max() < 0.001
    np.testing.assert_allclose(out[noise > 0.03].T, np.tile(noise[noise > 0.03], (9, 1)), atol=1e-5)
    steps = np.diff(out, axis=0)
    assert steps.min() > -2e-4
    assert steps.max() < 2 * 0.001


def test_gradients_are_finite():
    ours, driving = face(0.2), face(0.0, (0.0, 0.2), seed=1)
    for initial in (face(0.1, (0.3, 0.0), seed=1), ours):
        grad = jax.grad(lambda d, initial=initial: (transfer_shape(ours, d, initial) ** 2).sum())(driving)
        assert np.isfinite(grad).all()
        assert np.abs(grad).max() > 0


def test_the_shape_of_an_opening_mouth_is_the_audio_driven_mouths(tmp_path):
    shape, mirror = mouth_opening(), mirror_indices()
    np.testing.assert_allclose(shape[:, 1:], fit_openings.mouth_opening(), atol=1e-6)
    np.testing.assert_allclose(shape[mirror], shape * [-1, 1, 1], atol=2e-3)
    assert shape[14, 1] - shape[13, 1] == pytest.approx(1, abs=2e-3)
    still = [i for edges in APERTURES[1:] for edge in edges for i in edge]
    assert not shape[[*still, 1, 33, 263, 468]].any()
    assert np.abs(shape[list(LIPS)]).max(1).min() > 0
    out = tmp_path / "shape.csv"
    assert fit_openings.main([str(out)]) == 0
    np.testing.assert_allclose(np.loadtxt(out, delimiter=","), shape[:, 1:], atol=1e-6)

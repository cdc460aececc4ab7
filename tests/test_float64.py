"""What is computed in float32 stays so where JAX's default is float64 (`JAX_ENABLE_X64=1`).

Programs are traced, not run: none of their values may be float64. Then a program and its result are the same, up to the
width of some integers. JAX's own resizing and quantiles, which compute their weights in the default dtype and round
them, are left out.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import jaxprs_in_params

from avfr_jax.landmarks import NUM_LANDMARKS
from avfr_jax.models import mesh_fomm
from avfr_jax.models.base import Priors
from avfr_jax.models.landmark_animator import LandmarkAnimator
from avfr_jax.models.landmark_warp import LandmarkWarpConfig
from avfr_jax.motion import FaceMesh, MeshKeypoints
from avfr_jax.ops.matching import halfway_motion
from tests.models.test_mesh_fomm import CONFIG

WIDE = {np.dtype(np.float64), np.dtype(np.complex128)}
CLIP = (3, CONFIG.image_size, CONFIG.image_size, 3), (3, NUM_LANDMARKS, 3), (3, CONFIG.image_size, CONFIG.image_size)


def _wide_values(jaxpr) -> list[str]:
    """Names of the functions of avfr_jax that compute a float64 value, with file and line."""
    found = []
    for equation in jaxpr.eqns:
        inner = list(jaxprs_in_params(equation.params))
        if equation.params.get("name") in ("_resize", "quantile", "_median"):
            continue
        if not inner and any(getattr(variable.aval, "dtype", None) in WIDE for variable in equation.outvars):
            frames = equation.source_info.traceback.frames
            ours = [f"{f.file_name}:{f.line_num} {f.function_name}" for f in frames if "avfr_jax" in f.file_name]
            found.append(ours[0] if ours else str(equation))
        found += [place for part in inner for place in _wide_values(part)]
    return found


def _check(function, *arguments) -> None:
    """Trace a function with float64 as the default; a tuple stands for a float32 array of that shape."""
    with jax.enable_x64(True):
        arrays = [jax.ShapeDtypeStruct(a, jnp.float32) if isinstance(a, tuple) else a for a in arguments]
        traced, out = jax.make_jaxpr(function, return_shape=True)(*arrays)
    assert not _wide_values(traced.jaxpr)
    assert {leaf.dtype for leaf in jax.tree.leaves(out)} == {jnp.dtype(jnp.float32)}


def test_landmark_warp():
    """What a session and a receiver compute of a clip whose first frame is the source."""
    model = LandmarkAnimator(LandmarkWarpConfig(size=CONFIG.image_size), fingerprint=bytes(8))

    def reenact(frames, landmarks, masks):
        motion = model.keypoints(frames, Priors(landmarks, masks))
        encoded = model.encode_source(frames[0], motion[:1], Priors(landmarks[:1], masks[:1]))
        moved = model.motion_spec.retarget(motion[:1], motion, motion[:1])
        received = model.motion_spec.unflatten(model.motion_spec.flatten(moved))
        return model.animate(encoded, motion[:1], received), moved

    _check(reenact, *CLIP)


def test_mesh_fomm():
    with jax.enable_x64(True):
        weights = jax.eval_shape(lambda key: mesh_fomm.init(CONFIG, key), jax.random.key(0))
    assert {leaf.dtype for leaf in jax.tree.leaves(weights)} == {jnp.dtype(jnp.float32)}

    def reenact(weights, frames, landmarks, masks):
        inputs = mesh_fomm.detector_input(frames, landmarks, CONFIG)
        learned, _ = mesh_fomm.keypoint_detector(CONFIG).apply(weights["keypoint_detector"], inputs)
        motion = MeshKeypoints(learned, FaceMesh.from_landmarks(landmarks))
        source = frames[:1], landmarks[:1], masks[:1], motion[:1]
        module = mesh_fomm.generator(CONFIG)
        return module.apply(weights["generator"], *source, motion, method=mesh_fomm.encode_and_animate)

    _check(reenact, weights, *CLIP)


def test_motion_between_frames():
    _check(halfway_motion, (1, 32, 32, 3), (1, 32, 32, 3))


def test_a_float64_value_is_found():
    with pytest.raises(AssertionError):
        _check(lambda x: x * jnp.array([0.5]), (1,))

"""FOMM on prepared variables against the plain networks, in every variant."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from avfr_jax.models import fomm
from avfr_jax.models.dense_motion import DenseMotionConfig
from avfr_jax.models.fomm_animator import detect, encode_source, generate, prepare
from avfr_jax.models.keypoints import KeypointDetectorConfig
from avfr_jax.motion import Keypoints
from avfr_jax.nn import fast

SMALL = fomm.FommConfig(
    image_size=64,
    num_keypoints=5,
    keypoint_detector=KeypointDetectorConfig(block_expansion=8, num_blocks=2, max_features=64, scale_factor=0.5),
    dense_motion=DenseMotionConfig(block_expansion=8, num_blocks=2, max_features=64, scale_factor=0.5),
    generator=fomm.GeneratorConfig(block_expansion=32, num_bottleneck_blocks=1),
)
_DETECTOR, _GENERATOR = SMALL.keypoint_detector, SMALL.generator
VARIANTS = {
    "plain": SMALL,
    "aligned_corners_shared_jacobian": dataclasses.replace(
        SMALL,
        align_corners=True,
        keypoint_detector=dataclasses.replace(_DETECTOR, single_jacobian_map=True, padding=3),
    ),
    "positions_alone_no_occlusion_no_shrinking": dataclasses.replace(
        fomm.at_size(fomm.without_jacobian(SMALL), 32),
        keypoint_detector=dataclasses.replace(_DETECTOR, scale_factor=1.0),
        dense_motion=dataclasses.replace(SMALL.dense_motion, scale_factor=1.0),
        generator=dataclasses.replace(_GENERATOR, estimate_occlusion_map=False),
    ),
    "larger": fomm.at_size(SMALL, 128),
}


def _weights(config: fomm.FommConfig) -> dict:
    """Random weights whose normalisations and Jacobian heads are as in a trained model: not the identity, not zero."""
    rng = np.random.default_rng(0)

    def draw(path, x):
        name = jax.tree_util.keystr(path)
        noise = rng.standard_normal(x.shape).astype(np.float32)
        if "var" in name:
            return np.abs(0.3 + 0.05 * noise)
        if "scale" in name:
            return 1 + 0.2 * noise
        if "kernel" in name:
            return noise * (0.02 if "jacobian" in name else 0.6 / np.sqrt(np.prod(x.shape[:-1])))
        return 0.1 * noise

    shapes = jax.eval_shape(lambda: fomm.init(config, jax.random.key(0)))
    return {name: jax.tree_util.tree_map_with_path(draw, shapes[name]) for name in ("keypoint_detector", "generator")}


def _both(config: fomm.FommConfig, reduce_arithmetic: bool, frames: int = 3, sources: int = 1) -> tuple:
    variables = _weights(config)
    rng = np.random.default_rng(2)
    side = config.image_size
    source = jnp.asarray(rng.random((sources, side, side, 3)), jnp.float32)
    driving = jnp.asarray(rng.random((frames, side, side, 3)), jnp.float32)
    generator = fomm.generator(config)

    @jax.jit
    def reference(variables, source, driving):
        find = fomm.keypoint_detector(config).apply
        here, there = (find(variables["keypoint_detector"], x)[0] for x in (source, driving))
        weights = variables["generator"]
        encoded = generator.apply(weights, source, method="encode")
        motion = generator.apply(weights, encoded, here, there, method="motion")
        return here, there, generator.apply(weights, encoded, motion, method="decode").prediction

    prepared = prepare(config, variables, reduce_arithmetic=reduce_arithmetic)
    here, there = (detect(config, prepared, x) for x in (source, driving))
    frames = generate(config, prepared, encode_source(config, prepared, source), here, there).frames
    return reference(variables, source, driving), (here, there, frames)


def _assert_equal(reference: tuple, ours: tuple) -> None:
    assert jax.tree.structure(ours) == jax.tree.structure(reference)
    assert float(jnp.std(reference[2])) > 0.01  # an image that says something
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), ours, reference)


@pytest.mark.parametrize("variant", VARIANTS)
def test_inference_equals_the_networks(variant):
    _assert_equal(*_both(VARIANTS[variant], True))


def test_folding_alone_equals_the_networks():
    _assert_equal(*_both(SMALL, False, frames=1))


@pytest.mark.parametrize("sources", [1, 3])
def test_all_frames_at_once_as_on_an_accelerator(monkeypatch, sources):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    jax.clear_caches()
    _assert_equal(*_both(SMALL, False, sources=sources))
    jax.clear_caches()


def test_a_source_for_every_frame():
    _assert_equal(*_both(SMALL, True, frames=2, sources=2))


def test_kernels_are_chosen_by_the_arithmetic_they_save():
    kernels = prepare(SMALL, _weights(SMALL), reduce_arithmetic=True)["generator"]["prepared"]
    assert isinstance(kernels["bottleneck_0"]["conv1"]["kernel"], fast.WinogradKernel)
    assert isinstance(kernels["up_blocks_1"]["conv"]["kernel"], fast.UpsampleKernel)
    heads = kernels["dense_motion_network"]
    assert isinstance(heads["mask"]["kernel"], fast.TapKernel)
    assert heads["mask"]["bias"].shape == (SMALL.num_keypoints + 2,)
    assert "occlusion" not in heads
    plain = prepare(SMALL, _weights(SMALL), reduce_arithmetic=False)["generator"]["prepared"]
    assert plain["bottleneck_0"]["conv1"]["kernel"].shape == (3, 3, 128, 128)
    assert plain["up_blocks_0"]["conv"]["kernel"].shape == (3, 3, 128, 64)
    assert plain["dense_motion_network"]["mask"]["kernel"].shape[:2] == (7, 7)


def test_full_width_equals_the_networks():
    """The channel counts of vox-adv-256, at which rounding would show; a smaller frame, for speed."""
    config = dataclasses.replace(fomm.vox_adv_256(), image_size=128)
    variables = _weights(config)
    rng = np.random.default_rng(4)
    source = jnp.asarray(rng.random((1, 128, 128, 3)), jnp.float32)
    value = jnp.asarray(rng.uniform(-0.8, 0.8, (2, 10, 2)), jnp.float32)
    jacobian = jnp.asarray(np.eye(2) + 0.2 * rng.standard_normal((2, 10, 2, 2)), jnp.float32)
    here, there = Keypoints(value[:1], jacobian[:1]), Keypoints(value[1:], jacobian[1:])
    exact = jax.jit(fomm.generator(config).apply)(variables["generator"], source, here, there).prediction
    prepared = prepare(config, variables, reduce_arithmetic=True)
    frames = generate(config, prepared, encode_source(config, prepared, source), here, there).frames
    np.testing.assert_allclose(frames, exact, atol=1e-5)

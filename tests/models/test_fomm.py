import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from avfr_jax.convert import fomm as convert
from avfr_jax.models import fomm
from avfr_jax.models.discriminators import DiscriminatorConfig
from avfr_jax.models.fomm_animator import FommAnimator
from avfr_jax.motion import Keypoints
from tests.reference import channels_last, rule_states


def run(module, *arguments, **settings):
    """A network as one program: operation by operation it would compile hundreds."""
    return jax.jit(functools.partial(module.apply, **settings))(*arguments)


def small(**changes):
    """A FOMM of a few thousand parameters, for what does not need the real widths."""
    return fomm.FommConfig(
        image_size=64,
        num_keypoints=4,
        keypoint_detector=fomm.KeypointDetectorConfig(
            block_expansion=4, num_blocks=2, max_features=16, scale_factor=0.5
        ),
        dense_motion=fomm.DenseMotionConfig(4, 2, 16, scale_factor=0.25),
        generator=fomm.GeneratorConfig(block_expansion=4, max_features=16, num_bottleneck_blocks=1),
        discriminator=DiscriminatorConfig(block_expansion=4, num_blocks=2, max_features=16),
        **changes,
    )


def weights(config, seed=0, init=fomm.init):
    """Random weights of the right shapes, without running the networks as `init` does."""
    rng = np.random.default_rng(seed)

    def draw(path, leaf):
        name = path[-1].key
        if name == "kernel":
            bound = 1 / np.sqrt(np.prod(leaf.shape[:-1]))
            return rng.uniform(-bound, bound, leaf.shape).astype(np.float32)
        if name == "bias" and path[-2].key == "jacobian":
            return np.tile([1.0, 0, 0, 1], leaf.shape[0] // 4).astype(np.float32)
        return (np.ones if name in ("scale", "var") else np.zeros)(leaf.shape, np.float32)

    shapes = jax.eval_shape(lambda key: init(config, key), jax.random.key(0))
    return jax.tree_util.tree_map_with_path(draw, shapes)


def _tiny(golden):
    config, variables = convert.import_checkpoint(
        golden / "fomm_tiny.pth.tar", golden / "fomm_tiny.yaml", align_corners=False
    )
    z = np.load(golden / "fomm_tiny_io.npz")
    return config, variables, channels_last(z["source_NCHW"]), channels_last(z["driving_NCHW"])


@pytest.fixture(scope="module")
def tiny(shared_dir):
    return _tiny(shared_dir / "golden")


def _near(got, want, tolerance=1e-4):
    np.testing.assert_allclose(np.asarray(got), want, atol=tolerance, rtol=0)


@pytest.mark.parametrize("complete", [False, pytest.param(True, marks=pytest.mark.shared)])
def test_tiny_networks_equal_the_reference_in_evaluation(complete, golden_dir, request):
    """The repository holds one of the two frames and the smaller of the maps."""
    golden = request.getfixturevalue("shared_dir") / "golden" if complete else golden_dir
    config, variables, source, driving = _tiny(golden)
    z = np.load(golden / "fomm_tiny_io.npz")
    detector, generator = fomm.keypoint_detector(config), fomm.generator(config)
    results, kps = {}, {}
    for which, frames in (("source", source), ("driving", driving)):
        kps[which], heatmap = run(detector, variables["keypoint_detector"], frames)
        results[f"kp_{which}_value"], results[f"kp_{which}_jacobian"] = kps[which].value, kps[which].jacobian
        results[f"kp_{which}_heatmap_NCHW"] = heatmap
    out = run(generator, variables["generator"], source, kps["source"], kps["driving"])
    deformed = run(generator, variables["generator"], source, out.motion.deformation, method="deform")
    judged = run(fomm.discriminator(config), variables["discriminator"], out.prediction, kps["driving"])["1"]
    results |= {
        "dm_sparse_deformed_NKCHW": jnp.moveaxis(out.motion.sparse_deformed, 1, -2),
        "dm_mask_NKHW": out.motion.mask,
        "dm_deformation_NHW2": out.motion.deformation,
        "dm_occlusion_map_NCHW": out.motion.occlusion_map,
        "gen_bottleneck_in_NCHW": out.bottleneck_in,
        "gen_bottleneck_out_NCHW": out.bottleneck_out,
        "gen_prediction_NCHW": out.prediction,
        "gen_deformed_NCHW": deformed,
        "disc1_prediction_map_NCHW": judged[1],
        **{f"disc1_feature{i}_NCHW": maps for i, maps in enumerate(judged[0])},
    }
    compared = 0
    for name, result in results.items():
        if f"eval/{name}" in z.files:
            want = z[f"eval/{name}"]
            if name.endswith("NKCHW"):
                want = np.moveaxis(want, (1, 2), (-2, -1))
            elif name.endswith("HW"):
                want = channels_last(want)
            _near(result, want)
            compared += 1
    assert compared == (len(results) if complete else 13)


@pytest.mark.shared
def test_tiny_networks_equal_the_reference_in_training(tiny, shared_dir):
    """In float64: in float32 the order of sums, another on every processor, makes up to 1.3e-4 by itself."""
    config, *given = tiny
    z = np.load(shared_dir / "golden" / "fomm_tiny_train_fwd.npz")
    with jax.enable_x64(True):
        variables, source, driving = jax.tree.map(lambda x: np.asarray(x, np.float64), given)
        detector, generator = fomm.keypoint_detector(config), fomm.generator(config)

        def detect(variables, frames):
            (kp, heat), after = run(detector, variables, frames, train=True, mutable=["batch_stats"])
            return kp, heat, {**variables, **after}

        kp_source, heat_source, state = detect(variables["keypoint_detector"], source)
        kp_driving, heat_driving, state = detect(state, driving)
        out, after = run(
            generator, variables["generator"], source, kp_source, kp_driving, train=True, mutable=["batch_stats"]
        )
        _near(kp_source.value, z["train/kp_source_value"])
        _near(kp_driving.jacobian, z["train/kp_driving_jacobian"])
        _near(heat_source, channels_last(z["train/kp_source_heatmap_NCHW"]))
        _near(heat_driving, channels_last(z["train/kp_driving_heatmap_NCHW"]))
        _near(out.motion.mask, channels_last(z["train/dm_mask_NKHW"]))
        _near(out.motion.occlusion_map, channels_last(z["train/dm_occlusion_map_NCHW"]))
        _near(out.prediction, channels_last(z["train/gen_prediction_NCHW"]))
        judge = fomm.discriminator(config)
        judged = run(judge, variables["discriminator"], out.prediction, kp_driving, train=True)["1"]
        _near(judged[1], channels_last(z["train/disc1_prediction_map_NCHW"]))
        states = {"kp_detector": state["batch_stats"], "generator": after["batch_stats"]}
        compared = 0
        for key in z.files:
            if key.startswith("train/bn_after/"):
                network, path = key[len("train/bn_after/") :].split("/")
                module, _, name = path.rpartition(".")
                node = states[network]
                for part in convert.rename(module).split("."):
                    node = node[part]
                _near(node[{"running_mean": "mean", "running_var": "var"}[name]], z[key])
                compared += 1
        assert compared == 10


@pytest.mark.shared
def test_full_size_equals_the_reference(shared_dir):
    states = rule_states(shared_dir / "golden" / "rule_manifest_fomm_full.json")
    z = np.load(shared_dir / "golden" / "fomm_full_rule_io.npz")
    config = fomm.vox_adv_256()
    variables = convert.to_tree(states, config)
    source, driving = (channels_last(z[f"{w}_NCHW_uint8"]).astype(np.float32) / 255 for w in ("source", "driving"))
    detector = fomm.keypoint_detector(config)
    kp_source, _ = run(detector, variables["keypoint_detector"], source)
    kp_driving, _ = run(detector, variables["keypoint_detector"], driving)
    _near(kp_source.value, z["kp_source_value"], 1e-3)
    _near(kp_source.jacobian, z["kp_source_jacobian"], 1e-3)
    _near(kp_driving.value, z["kp_driving_value"], 1e-3)
    _near(kp_driving.jacobian, z["kp_driving_jacobian"], 1e-3)
    out = run(fomm.generator(config), variables["generator"], source, kp_source, kp_driving)
    _near(out.motion.mask, channels_last(z["mask_NKHW"]), 1e-3)
    _near(out.motion.occlusion_map, channels_last(z["occlusion_map_NCHW"]), 1e-3)
    _near(out.prediction, channels_last(z["prediction_NCHW"]), 1e-3)
    judged = run(fomm.discriminator(config), variables["discriminator"], out.prediction, kp_driving)["1"]
    _near(judged[1], channels_last(z["disc_prediction_map_NCHW"]), 1e-3)
    # The prepared weights that `avfr reenact` runs on.
    model = FommAnimator(config, variables)
    fast_source, fast_driving = model.keypoints(source), model.keypoints(driving)
    _near(fast_driving.value, z["kp_driving_value"], 1e-3)
    _near(fast_driving.jacobian, z["kp_driving_jacobian"], 1e-3)
    _near(model.animate(source[0], fast_source, fast_driving), channels_last(z["prediction_NCHW"]), 1e-3)


def test_published_sizes():
    shapes = jax.eval_shape(lambda k: fomm.init(fomm.vox_adv_256(), k), jax.random.key(0))
    count = {n: sum(x.size for x in jax.tree.leaves(v["params"])) for n, v in shapes.items()}
    assert count == {"keypoint_detector": 14_215_368, "generator": 45_575_391, "discriminator": 2_769_089}
    plain = jax.eval_shape(lambda k: fomm.init(fomm.without_jacobian(fomm.vox_256()), k), jax.random.key(0))
    assert "jacobian" not in plain["keypoint_detector"]["params"]
    assert "spectral" in plain["discriminator"]


@pytest.mark.parametrize("jacobian", [True, False])
def test_a_fresh_network_runs_jits_and_has_finite_gradients(jacobian):
    config = small(estimate_jacobian=jacobian)
    variables = weights(config)
    frames = jax.random.uniform(jax.random.key(1), (2, 64, 64, 3))

    @jax.jit
    def loss(variables):
        (kp, _), _ = fomm.keypoint_detector(config).apply(
            variables["keypoint_detector"], frames, train=True, mutable=["batch_stats"]
        )
        out, _ = fomm.generator(config).apply(
            variables["generator"], frames, kp, kp[::-1], train=True, mutable=["batch_stats"]
        )
        return jnp.abs(out.prediction - frames[::-1]).mean(), out.prediction

    (value, prediction), gradient = jax.value_and_grad(loss, has_aux=True)(variables)
    assert prediction.shape == frames.shape
    assert 0 <= float(prediction.min()) <= float(prediction.max()) <= 1
    assert np.isfinite(value)
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(gradient))
    learns = gradient["keypoint_detector"]["params"]["kp"]["kernel"]
    assert float(jnp.abs(learns).max()) > 0


def test_twice_the_size_keeps_the_motion_at_its_resolution():
    config = fomm.at_size(small(), 128)
    variables = weights(config)
    frames = jax.random.uniform(jax.random.key(1), (1, 128, 128, 3))
    kp, heat = run(fomm.keypoint_detector(config), variables["keypoint_detector"], frames)
    out = run(fomm.generator(config), variables["generator"], frames, kp, kp)
    assert heat.shape[1] == 32 - 6
    assert out.motion.deformation.shape[1] == 16
    assert out.prediction.shape == frames.shape
    assert jax.tree.map(np.shape, variables) == jax.tree.map(np.shape, weights(small()))


def test_fresh_jacobians_are_the_identity():
    config = small()
    frames = jnp.ones((1, 64, 64, 3)) * 0.4
    variables = {"keypoint_detector": fomm.keypoint_detector(config).init(jax.random.key(0), frames)}
    kp, _ = run(fomm.keypoint_detector(config), variables["keypoint_detector"], frames)
    np.testing.assert_allclose(kp.jacobian, jnp.broadcast_to(jnp.eye(2), kp.jacobian.shape), atol=1e-5)


def test_aligned_corners_make_the_identity_warp_exact():
    """The reference's identity grid is corner-aligned: only under that convention does it return the image."""
    image = jax.random.uniform(jax.random.key(0), (1, 64, 64, 3))
    kp = Keypoints(jnp.zeros((1, 4, 2)), jnp.broadcast_to(jnp.eye(2), (1, 4, 2, 2)))
    errors = {}
    for corners in (True, False):
        config = small(align_corners=corners)
        variables = weights(config)
        generator = fomm.generator(config)
        motion = generator.apply(variables["generator"], image, kp, kp).motion
        small_image = generator.apply(variables["generator"], image, method="encode").small
        errors[corners] = float(jnp.abs(motion.sparse_deformed[:, 0] - small_image).max())
    assert errors[True] < 1e-5 < errors[False]


def test_a_conditional_discriminator_needs_keypoints():
    config = small()
    variables = weights(config)
    with pytest.raises(ValueError, match="keypoints"):
        fomm.discriminator(config).apply(variables["discriminator"], jnp.zeros((1, 64, 64, 3)))


def test_bfloat16_stays_near_float32():
    config = small()
    variables = weights(config)
    frames = jax.random.uniform(jax.random.key(1), (2, 64, 64, 3))
    out = {}
    for dtype in (None, jnp.bfloat16):
        kp, _ = run(fomm.keypoint_detector(config, dtype=dtype), variables["keypoint_detector"], frames)
        assert kp.value.dtype == jnp.float32
        out[dtype] = run(fomm.generator(config, dtype=dtype), variables["generator"], frames, kp, kp[::-1]).prediction
    assert float(jnp.abs(out[None] - out[jnp.bfloat16]).mean()) < 0.02


def test_configs_survive_json():
    from avfr_jax.config import from_dict, to_dict

    config = dataclasses.replace(small(), discriminator=DiscriminatorConfig(scales=(1.0, 0.5)))
    assert from_dict(fomm.FommConfig, to_dict(config)) == config

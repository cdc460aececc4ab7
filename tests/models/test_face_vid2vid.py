import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from avfr_jax.convert import face_vid2vid as convert
from avfr_jax.errors import ConfigError, MissingBackendError
from avfr_jax.faces.face_surface import with_face
from avfr_jax.faces.mesh_head import mesh_head
from avfr_jax.landmarks import canonical_face
from avfr_jax.models import face_vid2vid
from avfr_jax.models.base import Priors
from avfr_jax.models.canonical_keypoints import CanonicalDetectorConfig
from avfr_jax.models.dense_motion_3d import VolumeMotionConfig
from avfr_jax.models.discriminators import DiscriminatorConfig
from avfr_jax.models.face_vid2vid import FaceVid2VidConfig, VolumeGeneratorConfig
from avfr_jax.models.face_vid2vid_animator import FaceVid2VidAnimator, detect, encode_source, generate
from avfr_jax.models.head_pose import HeadPoseConfig
from avfr_jax.motion import HeadMotion, concatenate
from avfr_jax.ops.resize import average_pool, resize_linear
from avfr_jax.ops.rotations import binned_angles, euler_to_matrix, matrix_to_euler
from avfr_jax.ops.volumes import to_image, to_volume
from tests.models.test_fomm import weights
from tests.reference import channels_last, rule_states

# Full checkpoint, the one of the other generator, their numbers; the kind of generator in each.
GOLDEN = {
    "spade": ("fv2v_tiny_spade", None, "fv2v_tiny", "spade"),
    "plain_jacobian": ("fv2v_tiny_jac_original", None, "fv2v_tiny_jac", "original"),
}


_GENERATOR = VolumeGeneratorConfig(
    block_expansion=4, max_features=16, volume_channels=4, volume_depth=4, num_resblocks=1, num_spade_blocks=1
)  # fmt: skip


def small(**changes):
    """A face-vid2vid of a few thousand parameters."""
    settings = {
        "image_size": 32,
        "num_keypoints": 4,
        "keypoint_detector": CanonicalDetectorConfig(
            block_expansion=4, num_blocks=2, max_features=16, scale_factor=0.5, depth=2
        ),
        "head_pose": HeadPoseConfig(4, 32, (1, 1, 1, 1)),
        "dense_motion": VolumeMotionConfig(4, 1, 8, 2),
        "generator": _GENERATOR,
        "discriminator": DiscriminatorConfig(4, 2, 16, use_keypoints=False, spectral=True),
    }
    return FaceVid2VidConfig(**{**settings, **changes})


def run(module, *arguments, **settings):
    return jax.jit(functools.partial(module.apply, **settings))(*arguments)


def _near(got, want, tolerance=1e-4):
    np.testing.assert_allclose(np.asarray(got), want, atol=tolerance, rtol=0)


def _golden(shared_dir, variant):
    file, other, numbers, kind = GOLDEN[variant]
    golden = shared_dir / "golden"
    config, variables = convert.import_checkpoint(
        golden / f"{file}.pth.tar", networks_from=other and golden / f"{other}.pth.tar"
    )
    return config, variables, np.load(golden / f"{numbers}_io.npz"), kind


@pytest.mark.shared
def test_keypoints_equal_the_reference(shared_dir):
    config, variables, z, _ = _golden(shared_dir, "spade")
    source, driving = channels_last(z["source_NCHW"]), channels_last(z["driving_NCHW"])
    kp, heatmap = run(face_vid2vid.keypoint_detector(config), variables["keypoint_detector"], source)
    _near(kp.value, z["eval/kp_canonical_value"])
    _near(heatmap, channels_last(z["eval/kp_canonical_heatmap_NKDHW"]))
    estimate = jax.jit(face_vid2vid.head_pose(config).apply)
    for which, frames in (("source", source), ("driving", driving)):
        pose = estimate(variables["head_pose"], frames)
        for i, name in enumerate(("yaw", "pitch", "roll")):
            _near(pose.logits[:, i], z[f"eval/he_{which}_{name}"])
            _near(pose.angles[:, i], z[f"eval/he_{which}_{name}_degree"])
        _near(pose.translation, z[f"eval/he_{which}_t"])
        _near(pose.expression.reshape(len(frames), -1), z[f"eval/he_{which}_exp"])
        head = face_vid2vid.composed(config, kp.value, pose)
        _near(head.rotation, z[f"eval/rot_{which}_N33"])
        _near(head.positions, z[f"eval/kp_{which}_value"])
    maps, logits = run(face_vid2vid.discriminator(config), variables["discriminator"], driving)["1"]
    for i, features in enumerate(maps):
        _near(features, channels_last(z[f"eval/disc1_of_driving_feature{i}_NCHW"]))
    _near(logits, channels_last(z["eval/disc1_of_driving_prediction_map_NCHW"]))


@pytest.mark.shared
def test_jacobians_equal_the_reference(shared_dir):
    config, variables, z, _ = _golden(shared_dir, "plain_jacobian")
    source = channels_last(z["source_NCHW"])
    kp, _ = run(face_vid2vid.keypoint_detector(config), variables["keypoint_detector"], source)
    _near(kp.jacobian, z["eval/kp_canonical_jacobian"])
    rotation = face_vid2vid.rotation(config, _angles(z, "source"))
    _near(jnp.einsum("nij,nkjl->nkil", rotation, kp.jacobian), z["eval/kp_source_jacobian"])


def _angles(z, which, prefix="eval/"):
    return jnp.stack([jnp.asarray(z[f"{prefix}he_{which}_{name}_degree"]) for name in ("yaw", "pitch", "roll")], axis=1)


def _reference_heads(config, z, prefix="eval/"):
    """Heads of source and driving as the reference has them."""
    heads = []
    canonical = jnp.asarray(z[f"{prefix}kp_canonical_value"])
    for which in ("source", "driving"):
        rotation = face_vid2vid.rotation(config, _angles(z, which, prefix))
        expression = jnp.asarray(z[f"{prefix}he_{which}_exp"]).reshape(canonical.shape)
        heads.append(HeadMotion(canonical, rotation, jnp.asarray(z[f"{prefix}he_{which}_t"]), expression))
    return heads


@pytest.mark.shared
@pytest.mark.parametrize("variant", ["spade", "plain_jacobian"])
def test_generators_equal_the_reference(variant, shared_dir):
    config, variables, z, kind = _golden(shared_dir, variant)
    heads = _reference_heads(config, z)
    out = run(face_vid2vid.generator(config), variables["generator"], channels_last(z["source_NCHW"]), *heads)
    z = {name.removeprefix(f"eval/{kind}/"): z[name] for name in z.files if name.startswith(f"eval/{kind}/")}
    _near(out.motion.mask, channels_last(z["dm_mask_NKDHW"]))
    _near(out.motion.deformation, z["dm_deformation_NDHW3"])
    _near(out.motion.occlusion_map, channels_last(z["dm_occlusion_map_NCHW"]))
    _near(to_image(out.warped), channels_last(z["deformed_feature_NCHW"]))
    _near(out.prediction, channels_last(z["prediction_NCHW"]))


@pytest.mark.shared
def test_angles_equal_the_reference(shared_dir):
    z = np.load(shared_dir / "golden" / "fv2v_tiny_io.npz")
    _near(binned_angles(jnp.asarray(z["pose/logits_N66"])), z["pose/degree"])
    angles = np.stack([z[f"pose/{name}_deg"] for name in ("yaw", "pitch", "roll")], axis=1)
    config = face_vid2vid.vox_256()
    _near(face_vid2vid.rotation(config, angles), z["pose/rotation_N33"])
    assert np.abs(np.asarray(face_vid2vid.rotation(FaceVid2VidConfig(), angles)) - z["pose/rotation_N33"]).max() > 1e-4


@pytest.mark.heavy
@pytest.mark.shared
@pytest.mark.parametrize("kind", ["original", "spade"])
def test_full_size_equals_the_reference(kind, shared_dir):
    """On the prepared weights that `avfr reenact` runs on. The SPADE decoder with these random weights magnifies the
    rounding errors of keypoints (1e-6) a thousandfold in places, so that frames are made from the reference's own."""
    drawn = rule_states(shared_dir / "golden" / "rule_manifest_fv2v_full.json")
    z = np.load(shared_dir / "golden" / "fv2v_full_rule_io.npz")
    states = {name: drawn[name] for name in ("kp_detector", "he_estimator", "discriminator")}
    states["generator"] = drawn.pop(f"generator_{kind}")
    states["kp_detector"]["down.weight"] = np.zeros((3, 1, 13, 13), np.float32)
    for name in z.files:
        if name.startswith("sn/"):
            _, network, key = name.split("/")
            network = network.removesuffix(f"_{kind}")
            if network in states:
                states[network][key] = z[name]
    config = convert.config_of(states)
    model = FaceVid2VidAnimator(config, convert.to_tree(states, config))
    source, driving = (channels_last(z[f"{w}_NCHW_uint8"]).astype(np.float32) / 255 for w in ("source", "driving"))
    k_source, k_driving = model.keypoints(source), model.driving_keypoints(driving)
    _near(k_source.canonical, z["kp_canonical_value"], 1e-3)
    _near(k_source.positions, z["kp_source_value"], 1e-3)
    _near(k_driving.rotation, z["rot_driving_N33"], 1e-3)
    heads = _reference_heads(config, z, "")
    out = model.explain(model.encode_source(source[0], heads[0]), *heads)
    _near(out.occlusion, channels_last(z[f"{kind}/dm_occlusion_map_NCHW"]), 1e-3)
    _near(out.frames, channels_last(z[f"{kind}/prediction_NCHW"]), 1e-3)


def test_beta_release_turns_about_other_axes():
    turned = face_vid2vid.rotation(face_vid2vid.vox_256_beta(), jnp.array([[30.0, 20.0, 10.0]]))
    _near(jnp.stack(matrix_to_euler(turned))[:, 0] / 3.14 * np.pi, [20, 10, 30], 1e-3)


def test_pitch_of_imported_weights_grows_upwards():
    specs = [
        face_vid2vid.motion_spec(c)
        for c in (face_vid2vid.vox_256(), face_vid2vid.vox_256_beta(), face_vid2vid.FaceVid2VidConfig())
    ]
    assert [spec.pitch_up for spec in specs] == [True, False, False]
    assert [spec.turns for spec in specs] == [True, False, True]


def test_published_sizes():
    """Parameters of the unofficial program's networks, its anti-alias kernel left out."""
    config = face_vid2vid.vox_256()
    image, head = face_vid2vid.example_inputs(config)
    networks = {
        "keypoint_detector": (face_vid2vid.keypoint_detector(config), image),
        "generator": (face_vid2vid.generator(config), image, head, head),
    }
    shapes = {name: jax.eval_shape(module.init, jax.random.key(0), *x) for name, (module, *x) in networks.items()}
    count = {name: sum(x.size for x in jax.tree.leaves(v["params"])) for name, v in shapes.items()}
    assert count == {"keypoint_detector": 41_940_047, "generator": 100_988_176}


VARIANTS = {
    "spade_source_skip": small(generator=dataclasses.replace(_GENERATOR, kind="spade", source_skip=True)),
    "direct_2d": small(keypoints="direct", warp="2d", estimate_jacobian=True, spectral=False),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_variants_have_frames_of_their_size(name):
    config = VARIANTS[name]
    shapes = jax.eval_shape(lambda key: face_vid2vid.init(config, key), jax.random.key(0))
    assert ("head_pose" in shapes) == (config.keypoints == "composed")
    assert ("spectral" in shapes["keypoint_detector"]) == config.spectral
    larger = face_vid2vid.at_size(config, 64)
    image, head = face_vid2vid.example_inputs(larger)
    out = jax.eval_shape(face_vid2vid.generator(larger).apply, shapes["generator"], image, head, head)
    assert out.prediction.shape == (1, 64, 64, 3)
    assert out.motion.displacement.shape == (1, 8, 8, 2)  # as at half the size
    assert (out.skip is not None) == config.generator.source_skip


def _head(key, count=1):
    keys = jax.random.split(jax.random.key(key), 3)
    return HeadMotion(
        jax.random.uniform(keys[0], (count, 4, 3), minval=-0.5, maxval=0.5),
        euler_to_matrix(*jax.random.uniform(keys[1], (3, count), minval=-20, maxval=20)),
        jnp.full((count, 3), 0.1),
        0.1 * jax.random.normal(keys[2], (count, 4, 3)),
    )


def test_animation_equals_the_networks_and_a_still_head_shows_the_source():
    """Prepared weights, one source for several frames, and driving heads without canonical keypoints. The first driving
    head is the source's: the composite flow is the identity, and the skip is the source itself."""
    config = small(spectral=False, generator=dataclasses.replace(_GENERATOR, source_skip=True))
    variables = weights(config, init=face_vid2vid.init)
    model = FaceVid2VidAnimator(config, variables)
    source, head = jax.random.uniform(jax.random.key(4), (32, 32, 3)), _head(3)
    driving = concatenate([head, _head(5)])
    got = model.explain(model.encode_source(source, head), head, driving)
    driving = dataclasses.replace(driving, canonical=jnp.repeat(head.canonical, 2, axis=0))
    want = run(face_vid2vid.generator(config), variables["generator"], source[None], head, driving)
    _near(got.frames, want.prediction)
    _near(got.displacement, want.motion.displacement)
    _near(got.occlusion, want.motion.occlusion_map)
    assert float(jnp.abs(got.displacement[1]).max()) > 0.01
    _near(got.displacement[0], 0 * got.displacement[0], 1e-5)
    _near(want.skip[0], source)
    assert model.capabilities.free_view


def test_networks_that_see_less_than_the_frames_keep_their_details():
    """Twice the size with the same weights: motion and shares are the same, the warped source has all of its pixels."""
    small_one = small(spectral=False, generator=dataclasses.replace(_GENERATOR, source_skip=True))
    config = dataclasses.replace(small_one, image_size=64, generator=dataclasses.replace(small_one.generator, reduce=2))
    variables = weights(small_one, init=face_vid2vid.init)["generator"]
    source = jax.random.uniform(jax.random.key(4), (1, 64, 64, 3))
    heads = _head(3), _head(5)
    got = run(face_vid2vid.generator(config), variables, source, *heads)
    want = run(face_vid2vid.generator(small_one), variables, average_pool(source, (2, 2)), *heads)
    _near(got.motion.displacement, want.motion.displacement)
    assert got.prediction.shape == got.skip.shape == (1, 64, 64, 3)
    still = run(face_vid2vid.generator(config), variables, source, heads[0], heads[0])
    _near(still.skip, source)
    # A plain picture has no details to lose: both sizes show the same.
    plain = jnp.broadcast_to(jnp.asarray([0.2, 0.5, 0.7]), (1, 64, 64, 3))
    large = run(face_vid2vid.generator(config), variables, plain, *heads)
    little = run(face_vid2vid.generator(small_one), variables, plain[:, ::2, ::2], *heads)
    colours = (little.prediction - little.share * little.skip) / (1 - little.share)
    share, colours = (resize_linear(x, (64, 64)) for x in (little.share, colours))
    _near(large.prediction, share * plain + (1 - share) * colours)
    for broken in ({"image_size": 63}, {"generator": dataclasses.replace(config.generator, source_skip=False)}):
        with pytest.raises(ConfigError, match=r"generator\.reduce"):
            dataclasses.replace(config, **broken)


def test_faces_move_by_their_surface_and_a_still_head_shows_the_source():
    motion = VolumeMotionConfig(4, 1, 8, 2, surface=16)
    skip = dataclasses.replace(_GENERATOR, source_skip=True)
    config = small(spectral=False, keypoints="mesh", num_keypoints=12, dense_motion=motion, generator=skip)
    variables = weights(config, init=face_vid2vid.init)["generator"]
    plain = dataclasses.replace(config, dense_motion=dataclasses.replace(motion, surface=0))
    source = jax.random.uniform(jax.random.key(4), (1, 32, 32, 3))
    face = canonical_face()[None] / 16
    head = mesh_head(jnp.asarray(face), config.mesh_points).motion()
    turned = dataclasses.replace(head, rotation=euler_to_matrix(*jnp.asarray([[20.0], [0.0], [0.0]])) @ head.rotation)
    got = run(face_vid2vid.generator(config), variables, source, head, turned)
    want = run(face_vid2vid.generator(plain), variables, source, head, turned).motion
    _near(got.motion.deformation, want.deformation, 1e-6)
    expected = with_face(want.displacement, head.positions, turned.positions, config.mesh_points, 16)
    _near(got.motion.displacement, expected, 1e-5)
    assert float(jnp.abs(expected - resize_linear(want.displacement, (64, 64))).max()) > 0.05
    still = run(face_vid2vid.generator(config), variables, source, head, head)
    _near(still.skip, source)
    for broken in ({"keypoints": "composed"}, {"num_keypoints": 7}, {"warp": "2d"}):
        with pytest.raises(ConfigError, match=r"dense_motion\.surface"):
            dataclasses.replace(config, **broken)
    with pytest.raises(ConfigError, match=r"dense_motion\.surface"):
        small(dense_motion=dataclasses.replace(motion, surface=-1))


def test_volumes_and_images_hold_the_same():
    image = jnp.arange(2 * 3 * 4 * 6.0).reshape(2, 3, 4, 6)
    volume = to_volume(image, 3)
    assert volume.shape == (2, 3, 3, 4, 2)
    assert float(volume[1, 2, 0, 3, 1]) == float(image[1, 0, 3, 1 * 3 + 2])
    np.testing.assert_array_equal(to_image(volume), image)


@pytest.mark.parametrize("kind", ["plain", "spade"])
def test_exported_programs_give_the_same_frames(kind):
    """Estimators, source and frames as StableHLO, for processors and accelerators, without this package's types."""
    config = small(spectral=False, generator=dataclasses.replace(_GENERATOR, kind=kind))
    variables = weights(config, init=face_vid2vid.init)
    parts = ("canonical", "rotation", "translation", "expression")

    def heads(frames):
        head = detect(config, variables, frames)
        return [getattr(head, part) for part in parts]

    def frames(source, here, there):
        encoded = encode_source(config, variables, source)
        return generate(config, variables, encoded, HeadMotion(*here), HeadMotion(*there)).frames

    images = jnp.asarray(np.random.default_rng(0).random((3, 32, 32, 3)), jnp.float32)
    found = heads(images)
    given = images[:1], [x[:1] for x in found], found
    for function, arguments in ((heads, (images,)), (frames, given)):
        program = jax.export.export(jax.jit(function), platforms=("cpu", "cuda", "tpu"))(*arguments)
        loaded = jax.export.deserialize(program.serialize())
        for got, want in zip(
            jax.tree.leaves(loaded.call(*arguments)), jax.tree.leaves(function(*arguments)), strict=True
        ):
            _near(got, want, 1e-5)


def test_mesh_keypoints_come_from_priors_and_move_the_frames():
    config = small(spectral=False, keypoints="mesh", keypoint_dropout=0.5)
    model = FaceVid2VidAnimator(config, weights(config, init=face_vid2vid.init))
    assert model.capabilities.landmarks
    assert model.capabilities.free_view
    frames = np.random.default_rng(0).random((2, 32, 32, 3)).astype(np.float32)
    turned = euler_to_matrix(*jnp.asarray([[0.0, 15.0], [0.0, -5.0], [0.0, 3.0]]))
    priors = Priors(0.1 * jnp.einsum("nij,kj->nki", turned, canonical_face()))
    heads = model.keypoints(frames, priors)
    np.testing.assert_allclose(
        heads.positions[..., :2], priors.landmarks[:, np.array(config.mesh_points), :2], atol=1e-5
    )
    yaw, pitch, roll = (np.asarray(x) for x in matrix_to_euler(heads.rotation))
    _near(np.stack([yaw, pitch, roll])[:, 1] - np.stack([yaw, pitch, roll])[:, 0], [15, -5, 3], 2.5)
    out = model.explain(model.encode_source(frames[0], heads[0]), heads[0], heads)
    assert out.frames.shape == (2, 32, 32, 3)
    _near(out.displacement[0], 0 * out.displacement[0], 1e-5)
    assert float(jnp.abs(out.displacement[1]).max()) > 0.01
    with pytest.raises(MissingBackendError, match="landmarks"):
        model.keypoints(frames)

"""AVFR-GAN: what is switched off is gone, and what is left is FOMM."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from avfr_jax import landmarks as face_points
from avfr_jax.codec.mesh_basis import shipped
from avfr_jax.errors import ConfigError
from avfr_jax.faces.mesh import structural_prior
from avfr_jax.landmarks import normalise_landmarks
from avfr_jax.models import avfr, fomm
from avfr_jax.models.avfr_animator import AvfrAnimator
from avfr_jax.models.base import Animator, Capabilities, Priors
from avfr_jax.models.mouth_masking import mask_mouth
from avfr_jax.motion import Keypoints
from data.clip_folder import prepare_synthetic
from pipelines.sources import open_dataset
from tests.models.test_fomm import weights

CONFIG = avfr.AvfrConfig(
    image_size=32,
    num_keypoints=2,
    keypoint_detector=fomm.KeypointDetectorConfig(block_expansion=4, num_blocks=1, max_features=8, scale_factor=0.5),
    dense_motion=fomm.DenseMotionConfig(4, 1, 8, scale_factor=0.5),
    generator=fomm.GeneratorConfig(block_expansion=4, num_down_blocks=1, num_bottleneck_blocks=1),
    discriminator=fomm.DiscriminatorConfig(block_expansion=4, num_blocks=2, max_features=8),
    audio=avfr.AudioConfig(block_expansion=4, max_features=8, features=6),
    identity=avfr.IdentityConfig(block_expansion=4, num_bottleneck_blocks=1, condition=4, hidden=4),
)
OFF = avfr.with_parts(CONFIG)
FOMM = fomm.FommConfig(**{f.name: getattr(CONFIG, f.name) for f in dataclasses.fields(fomm.FommConfig)})


def _names(tree):
    return {"/".join(str(k.key) for k in path) for path, _ in jax.tree_util.tree_leaves_with_path(tree)}


def _shapes(config):
    return jax.eval_shape(lambda key: avfr.init(config, key), jax.random.key(0))


def _inputs(n=2, seed=0):
    rng = np.random.default_rng(seed)
    source = jnp.asarray(rng.random((1, 32, 32, 3)), jnp.float32)
    jacobian = jnp.broadcast_to(jnp.eye(2), (n, 2, 2, 2))
    points = [Keypoints(jnp.asarray(rng.uniform(-0.5, 0.5, (m, 2, 2)), jnp.float32), jacobian[:m]) for m in (1, n)]
    mel = jnp.asarray(rng.uniform(-4, 4, (n, 80, 16)), jnp.float32)
    return source, *points, mel


def amplified_weights(config):
    """Random weights whose layers keep the variance of what goes through them, so that no input is lost on the way."""

    def amplified(path, leaf):
        return leaf * 2.4 if path[-1].key == "kernel" and path[0].key == "generator" else leaf

    return jax.tree_util.tree_map_with_path(amplified, weights(config, init=avfr.init))


@pytest.fixture(scope="module")
def heads(tmp_path_factory):
    folder = tmp_path_factory.mktemp("heads") / "data"
    prepare_synthetic(folder, clips=1, frames=2, size=256)
    return open_dataset(folder)


@pytest.fixture(scope="module")
def variables():
    return amplified_weights(CONFIG)


def test_with_everything_off_it_is_fomm():
    want = jax.eval_shape(lambda key: fomm.init(FOMM, key), jax.random.key(0))
    assert jax.tree.structure(_shapes(OFF)) == jax.tree.structure(want)
    assert [x.shape for x in jax.tree.leaves(_shapes(OFF))] == [x.shape for x in jax.tree.leaves(want)]
    drawn = weights(FOMM)["generator"]
    given = _inputs()[:3]
    ours = jax.jit(avfr.generator(OFF).apply)(drawn, *given)
    theirs = jax.jit(fomm.generator(FOMM).apply)(drawn, *given)
    np.testing.assert_array_equal(ours.prediction, theirs.prediction)
    assert ours.attention is None


@pytest.mark.parametrize("switch", avfr.SWITCHES)
def test_a_part_that_is_switched_off_has_no_parameters(switch):
    parts = {
        "structural_prior": (),
        "audio_encoder": ("audio_encoder",),
        "audio_attention": ("audio_attention",),
        "identity_aware_generator": ("identity_encoder", "identity_decoder"),
    }[switch]
    whole = _names(_shapes(CONFIG)["generator"])
    without = _shapes(dataclasses.replace(CONFIG, **{switch: False}))
    left = _names(without["generator"])
    for part in parts:
        assert any(f"/{part}/" in name for name in whole)
        assert not any(f"/{part}/" in name for name in left)
    channels = without["keypoint_detector"]["params"]["predictor"]["encoder"]["down_blocks_0"]["conv"]["kernel"].shape[
        2
    ]
    assert channels == (3 if switch == "structural_prior" else 5)


def test_the_parts_that_replace_fomms_decoder_leave_none_of_it():
    names = _names(_shapes(CONFIG)["generator"])
    gone = ("params/bottleneck_0", "params/up_blocks_0", "params/final")
    assert not any(name.startswith(gone) for name in names)
    plain_decoder = _names(_shapes(dataclasses.replace(CONFIG, identity_aware_generator=False))["generator"])
    assert any("params/join/" in name for name in plain_decoder)
    assert any("params/final/" in name for name in plain_decoder)


def test_audio_changes_the_frame(variables):
    source, kp_source, kp_driving, mel = _inputs()
    generator = jax.jit(avfr.generator(CONFIG).apply)
    run = lambda mel: generator(variables["generator"], source, kp_source, kp_driving, mel=mel)  # noqa: E731
    loud, still = run(mel), run(avfr.silence(2))
    assert loud.prediction.shape == (2, 32, 32, 3)
    assert loud.attention.shape == (2, 16, 16, 1)
    assert ((loud.attention > 0) & (loud.attention < 1)).all()
    assert np.abs(loud.prediction - still.prediction).max() > 1e-4
    without = jax.jit(avfr.generator(CONFIG).apply)(variables["generator"], source, kp_source, kp_driving)
    np.testing.assert_allclose(without.prediction, still.prediction, atol=1e-5)


def test_one_source_serves_every_frame(variables):
    source, kp_source, kp_driving, mel = _inputs()
    run = jax.jit(avfr.generator(CONFIG).apply)
    once = run(variables["generator"], source, kp_source, kp_driving, mel=mel).prediction
    twice = jax.tree.map(lambda x: jnp.concatenate([x, x]), (source, kp_source))
    each = run(variables["generator"], *twice, kp_driving, mel=mel).prediction
    np.testing.assert_allclose(once, each, atol=1e-5)


def test_gradients_reach_every_parameter(variables):
    config = dataclasses.replace(CONFIG, identity=dataclasses.replace(CONFIG.identity, warped_skips=False))
    own = variables["generator"]
    source, kp_source, kp_driving, mel = _inputs()
    twice = jax.tree.map(lambda x: jnp.concatenate([x, x]), (source, kp_source))
    state = {k: v for k, v in own.items() if k != "params"}

    def loss(params):
        out, _ = avfr.generator(config).apply(
            {**state, "params": params}, *twice, kp_driving, train=True, mel=mel, mutable=list(state)
        )
        return ((out.prediction - 0.3) ** 2).mean()

    grads = jax.jit(jax.grad(loss))(own["params"])
    for path, g in jax.tree_util.tree_leaves_with_path(grads):
        name = "/".join(str(k.key) for k in path)
        assert np.isfinite(g).all(), name
        if not name.endswith("bias"):  # a bias before a normalisation has none
            assert np.abs(g).max() > 0, name


def test_it_is_an_animator(variables):
    def find(frames, masks):
        face = np.zeros((len(frames), 478, 3), np.float32)
        face[..., :2] = np.random.default_rng(0).uniform(-0.5, 0.5, (478, 2))
        return Priors(face, np.ones(frames.shape[:3], np.float32) if masks else None)

    model = AvfrAnimator(CONFIG, variables, find)
    assert isinstance(model, Animator)
    assert model.capabilities == Capabilities(landmarks=True, person_masks=True, audio=True)
    assert AvfrAnimator(OFF, weights(OFF, init=avfr.init)).capabilities == Capabilities()
    frames = np.random.default_rng(0).random((3, 32, 32, 3), np.float32)
    keypoints = model.keypoints(frames)
    one = jax.tree.map(lambda x: x[:1], keypoints)
    encoded = model.encode_source(frames[0], one)
    mel = np.asarray(_inputs(3)[3])
    out = model.animate(encoded, one, model.motion_spec.retarget(one, keypoints, one), mel)
    assert out.shape == (3, 32, 32, 3)
    assert ((out >= 0) & (out <= 1)).all()
    behind = model.explain(encoded, one, keypoints, mel)
    np.testing.assert_allclose(behind.frames, model.animate(encoded, one, keypoints, mel), atol=1e-5)
    assert behind.displacement.shape == (3, 16, 16, 2)
    assert behind.attention.shape == (3, 16, 16, 1)


@pytest.mark.parametrize("size", [256, 64])
def test_the_structural_prior_is_the_drawing_of_training(heads, size):
    dataset = heads.shrunk(size)
    read = dataset.read_frame(dataset.clips[0], 1, ("image", "priors", "landmarks"))
    mask = read["image"][..., 4].astype(np.float32) / 255
    missing = np.full_like(read["landmarks"], np.nan)
    drawn = structural_prior(np.stack([read["landmarks"], missing]), np.stack([mask, mask]), size)
    np.testing.assert_allclose(drawn[0], read["image"][..., 3:] / 255, atol=0.01)
    assert drawn[0, ..., 0].max() > 0.2
    assert not drawn[1, ..., 0].any()


def face():
    """Landmarks of a face that looks at us, [478, 3] in [-1, 1]."""
    return normalise_landmarks(shipped().mean, 256, 256)


def _rolled(points, degrees):
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.concatenate([points[..., :2] @ np.float32([[c, s], [-s, c]]), points[..., 2:]], -1)


@pytest.mark.parametrize("degrees", [0, 30, 180])
def test_a_masked_mouth_is_removed_and_the_mask_does_not_depend_on_it(degrees):
    shut = face()
    jaw = np.r_[face_points.LIPS_OUTER, face_points.MOUTH_LOWER, 152, 148, 377]
    opened = shut.copy()
    opened[jaw, 1] += 0.05
    faces = np.stack([_rolled(f, degrees) for f in (shut, opened, shut * np.nan)])
    whole = np.asarray(mask_mouth(jnp.ones((3, 64, 64, 5)), jnp.asarray(faces)))
    assert whole[..., 3:].all()  # the drawing and the mask stay
    seen = whole[..., :3]
    assert seen[2].all()
    np.testing.assert_array_equal(seen[0], seen[1])
    assert 0.05 < 1 - seen[0].mean() < 0.3
    at = np.round((faces[:2, :, :2] + 1) / 2 * 63).astype(int)
    for one in at:
        assert not seen[0][one[jaw, 1], one[jaw, 0]].any()
        upper = one[[10, 151, 9, 33, 263, 159, 386, 168, 4]]
        assert seen[0][upper[:, 1], upper[:, 0]].all()
    some = mask_mouth(jnp.ones((3, 64, 64, 5)), jnp.asarray(faces), jnp.asarray([False, True, True]))
    np.testing.assert_array_equal(np.asarray(some).min((1, 2, 3)), [1, 0, 1])


def test_a_share_is_a_share():
    with pytest.raises(ConfigError, match="share, 0 to 1"):
        avfr.AvfrConfig(mouth_masking=1.5)
    assert not dataclasses.replace(OFF, mouth_masking=0.5).masks_mouths

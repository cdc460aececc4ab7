"""One small network and one objective a family, shared by the tests of training."""

import functools

import jax
import numpy as np

from avfr_jax.landmarks import canonical_face
from avfr_jax.models import avfr, face_vid2vid, fomm, interpolation, super_resolution
from avfr_jax.models.canonical_keypoints import CanonicalDetectorConfig
from avfr_jax.models.dense_motion_3d import VolumeMotionConfig
from avfr_jax.models.discriminators import DiscriminatorConfig
from avfr_jax.models.head_pose import HeadPoseConfig
from avfr_jax.models.volume_generators import VolumeGeneratorConfig
from avfr_jax.nn.unet import UNetConfig
from avfr_jax.training.composed import ComposedObjective
from avfr_jax.training.head_terms import (
    Deformation,
    HeadPose,
    KeypointPrior,
    MeshCanonical,
    MeshKeypoints,
    MeshTranslation,
)
from avfr_jax.training.objectives import avfr as avfr_training
from avfr_jax.training.objectives import face_vid2vid as face_vid2vid_training
from avfr_jax.training.objectives import fomm as fomm_training
from avfr_jax.training.objectives import interpolation as interpolation_training
from avfr_jax.training.objectives import super_resolution as super_resolution_training
from avfr_jax.training.terms import (
    FOMM_TERMS,
    Adversarial,
    EquivarianceValue,
    FeatureMatching,
    Perceptual,
    PyramidL1,
    WarpedL1,
)

SHARED = {
    "image_size": 32,
    "num_keypoints": 2,
    "keypoint_detector": fomm.KeypointDetectorConfig(block_expansion=4, num_blocks=1, max_features=8, scale_factor=0.5),
    "dense_motion": fomm.DenseMotionConfig(4, 1, 8, scale_factor=0.5),
    "generator": fomm.GeneratorConfig(block_expansion=4, max_features=8, num_down_blocks=1, num_bottleneck_blocks=1),
    "discriminator": DiscriminatorConfig(block_expansion=4, num_blocks=2, max_features=8),
}
FOMM = fomm.FommConfig(**SHARED)
AVFR = avfr.AvfrConfig(
    **SHARED,
    audio=avfr.AudioConfig(block_expansion=4, max_features=8, features=6),
    identity=avfr.IdentityConfig(block_expansion=4, num_bottleneck_blocks=1, condition=4, hidden=4),
)
FACE_VID2VID = face_vid2vid.FaceVid2VidConfig(
    image_size=32,
    num_keypoints=4,
    keypoint_dropout=0.5,
    keypoint_detector=CanonicalDetectorConfig(block_expansion=4, num_blocks=1, max_features=8, depth=2),
    head_pose=HeadPoseConfig(block_expansion=4, max_features=8, stage_blocks=(1, 1)),
    dense_motion=VolumeMotionConfig(4, 1, 8, compress=2, scale_factor=0.5, kernel=3),
    generator=VolumeGeneratorConfig(
        block_expansion=4,
        max_features=8,
        num_down_blocks=1,
        volume_channels=4,
        volume_depth=2,
        num_resblocks=1,
        source_skip=True,
    ),
    discriminator=DiscriminatorConfig(
        block_expansion=4, num_blocks=2, max_features=8, use_keypoints=False, spectral=True
    ),
)
IMAGES = {
    "network": UNetConfig(block_expansion=4, num_blocks=1, max_features=8),
    "discriminator": DiscriminatorConfig(block_expansion=4, num_blocks=1, max_features=8, use_keypoints=False),
}
INTERPOLATION = interpolation.InterpolationConfig(image_size=16, **IMAGES)
SUPER_RESOLUTION = super_resolution.SuperResolutionConfig(patch_size=16, overlap=4, batch_size=3, **IMAGES)

TERMS = (PyramidL1(10.0), *(term for term in FOMM_TERMS if not isinstance(term, Perceptual)))
FACE_VID2VID_TERMS = (
    PyramidL1(10.0),
    WarpedL1(),
    EquivarianceValue(),
    KeypointPrior(),
    HeadPose(1.0, target="mesh", frames="both"),
    Deformation(),
    MeshKeypoints(),
    MeshCanonical(),
    MeshTranslation(),
    Adversarial(1.0, "hinge"),
    FeatureMatching(),
)
IMAGE_TERMS = (PyramidL1(10.0, scales=(1.0,)), Adversarial(0.1, "non_saturating"))


def fomm_objective(terms=TERMS, **options):
    return ComposedObjective(fomm_training.TASK, FOMM, terms, **options)


def avfr_objective(config=AVFR, terms=TERMS, **options):
    return ComposedObjective(avfr_training.TASK, config, terms, **options)


def face_vid2vid_objective(config=FACE_VID2VID, terms=FACE_VID2VID_TERMS, **options):
    return ComposedObjective(face_vid2vid_training.TASK, config, terms, **options)


def interpolation_objective(config=INTERPOLATION, terms=IMAGE_TERMS, **options):
    return ComposedObjective(interpolation_training.TASK, config, terms, **options)


def super_resolution_objective(config=SUPER_RESOLUTION, terms=IMAGE_TERMS):
    return ComposedObjective(super_resolution_training.TASK, config, terms)


@functools.lru_cache
def random_weights(objective, seed=0):
    """Random weights of an objective's networks, of layers that start at zero too."""
    rng = np.random.default_rng(seed)

    def leaf(path, x):
        if path[-1].key in ("var", "scale"):
            return 1 + 0.1 * rng.random(x.shape, np.float32)
        return (rng.standard_normal(x.shape) / np.sqrt(max(1, np.prod(x.shape[:-1])))).astype(np.float32)

    return jax.tree_util.tree_map_with_path(leaf, jax.eval_shape(objective.init, jax.random.key(seed)))


def face():
    """Landmarks of a frontal face with closed lips, [478, 3] in [-1, 1]."""
    return canonical_face() / 12

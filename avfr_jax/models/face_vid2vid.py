"""face-vid2vid (Wang et al., "One-Shot Free-View Neural Talking-Head Synthesis for Video Conferencing", 2021): configs,
the composition of keypoints, and the model's pure functions.

The canonical keypoints x_c are the source's and come from its picture alone; a frame has a rotation R, a translation t
and expression offsets δ, and keypoints x = R x_c + t + δ (eq. 1). With `compatibility` the networks equal those of the
unofficial program (zhanglonghao1992) parameter for parameter; `avfr_jax.convert.face_vid2vid` holds the table of names.
"""

import dataclasses
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from avfr_jax.errors import ConfigError
from avfr_jax.faces.face_surface import LEAST_KEYPOINTS
from avfr_jax.landmarks import HEAD_KEYPOINTS
from avfr_jax.models.appearance import AppearanceExtractor
from avfr_jax.models.canonical_keypoints import CanonicalDetector, CanonicalDetectorConfig
from avfr_jax.models.dense_motion_3d import VolumeDenseMotion, VolumeMotion, VolumeMotionConfig
from avfr_jax.models.discriminators import DiscriminatorConfig, MultiScaleDiscriminator
from avfr_jax.models.head_pose import HeadPose, HeadPoseConfig, HeadPoseEstimator
from avfr_jax.models.volume_generators import (
    Painter,
    PlainDecoder,
    Projection,
    SpadeDecoder,
    VolumeGeneratorConfig,
    reduced,
)
from avfr_jax.motion import HeadMotion, HeadSpec
from avfr_jax.motion.view import LARGEST_TURN
from avfr_jax.ops.resize import resize_linear
from avfr_jax.ops.rotations import euler_to_matrix
from avfr_jax.ops.sampling import grid_sample_2d, grid_sample_3d
from avfr_jax.typing import Array, Float, Int

Compatibility = Literal["none", "unofficial", "unofficial-beta"]


@dataclasses.dataclass(frozen=True)
class FaceVid2VidConfig:
    """A whole model; the defaults are the paper's at 256 × 256, with the plain decoder.

    Attributes:
      image_size: side of the square frames in pixels.
      num_channels: of the generated image.
      num_keypoints: K.
      estimate_jacobian: a 3 × 3 Jacobian for each canonical keypoint, which an equivariance loss can use; it cancels
        in the motion field (see `VolumeDenseMotion`).
      keypoints: `composed` (eq. 1), or `direct`: each frame's keypoints are detected in it, without canonical ones,
        pose and expression (the ablation of table 5), or `mesh`: composed from the face mesh of each frame
        (`faces.mesh_head`), which takes the place of both estimators, so that the generator alone is learned.
      warp: `3d`, or `2d`: the keypoints are projected onto the image and move features without depth (likewise).
      spectral: spectral normalisation of every layer of every network but the heads of the pose estimator (section
        A.1); the discriminator's is in its own config.
      compatibility: `unofficial` reproduces what trained weights of the unofficial program rely on: 3.14 for pi,
        positions of cells with ±1 at the outermost cells' centres, and local motions that do not rotate
        (J = identity) where no Jacobians are estimated. `unofficial-beta` also turns heads about the axes of its first
        release: the roll's angle about x, the pitch's about y, the yaw's about z.
      keypoint_dropout: training leaves out up to this share of the keypoints, the last ones (`drop_keypoints`; 0.75 in
        the paper), so that a frame of a call may have as few; 0 needs all of them.
      mesh_driven: this share of the pairs trains the generator with the heads of the face meshes instead of the
        estimated ones, so that it need not wait for them to become right.
      turned: degrees by which the motion network also turns each source in training (yaw, and half as much pitch and
        roll), for `losses.turned_flow`: clips have few large turns. 0 trains it with pairs alone.
      align_corners: how those weights sample volumes: False as the program runs with PyTorch 1.3 or later.
    """

    image_size: int = 256
    num_channels: int = 3
    num_keypoints: int = 20
    estimate_jacobian: bool = False
    keypoints: Literal["composed", "direct", "mesh"] = "composed"
    warp: Literal["3d", "2d"] = "3d"
    spectral: bool = True
    compatibility: Compatibility = "none"
    align_corners: bool = False
    keypoint_dropout: float = 0.0
    mesh_driven: float = 0.0
    turned: float = 0.0
    keypoint_detector: CanonicalDetectorConfig = CanonicalDetectorConfig()
    head_pose: HeadPoseConfig = HeadPoseConfig()
    dense_motion: VolumeMotionConfig = VolumeMotionConfig()
    generator: VolumeGeneratorConfig = VolumeGeneratorConfig()
    discriminator: DiscriminatorConfig = DiscriminatorConfig(use_keypoints=False, spectral=True)

    def __post_init__(self) -> None:
        if not 0 <= self.keypoint_dropout < 1:
            raise ConfigError(f"keypoint_dropout must be from 0 to below 1, not {self.keypoint_dropout}.")
        if not 0 <= self.mesh_driven <= 1:
            raise ConfigError(f"mesh_driven must be from 0 to 1, not {self.mesh_driven}.")
        if not 0 <= self.turned <= LARGEST_TURN:
            raise ConfigError(f"turned must be degrees from 0 to {LARGEST_TURN:g}, not {self.turned}.")
        if self.turned and self.keypoints == "direct":
            raise ConfigError("turned needs composed keypoints: those that are detected directly have no pose.")
        if self.mesh_driven and self.keypoints != "composed":
            raise ConfigError("mesh_driven needs keypoints='composed'.")
        if (self.mesh_driven or self.keypoints == "mesh") and self.num_keypoints > len(HEAD_KEYPOINTS):
            raise ConfigError(f"The face mesh has {len(HEAD_KEYPOINTS)} keypoints, not {self.num_keypoints}.")
        if self.generator.reduce < 1 or self.image_size % self.generator.reduce:
            raise ConfigError(f"generator.reduce must divide image_size, not be {self.generator.reduce}.")
        if self.generator.reduce > 1 and not self.generator.source_skip:
            raise ConfigError("generator.reduce needs generator.source_skip: nothing else has the frames' size.")
        if (side := self.dense_motion.surface) < 0:
            raise ConfigError(f"dense_motion.surface is the side of a grid, not {side}.")
        if side and (self.keypoints != "mesh" or self.warp != "3d" or self.num_keypoints < LEAST_KEYPOINTS):
            raise ConfigError(
                f"dense_motion.surface needs warp 3d and {LEAST_KEYPOINTS} keypoints or more of the face mesh."
            )
        if self.keypoint_dropout and self.keypoints == "direct":
            raise ConfigError("keypoint_dropout needs composed keypoints: without expression those have a place.")

    @property
    def min_keypoints(self) -> int:
        """The fewest keypoints that a frame may have."""
        return self.num_keypoints - int(self.keypoint_dropout * self.num_keypoints)

    @property
    def corners(self) -> bool:
        """Whether ±1 are the centres of the outermost cells, not their edges."""
        return self.compatibility != "none"

    @property
    def rotates_flows(self) -> bool:
        """Whether the keypoints' local motions rotate with the head: J = R_s R_d⁻¹."""
        return self.compatibility == "none" or self.estimate_jacobian

    @property
    def mesh_points(self) -> tuple[int, ...]:
        """Landmarks of the face mesh that stand for the keypoints."""
        return HEAD_KEYPOINTS[: self.num_keypoints]


def vox_256() -> FaceVid2VidConfig:
    """The unofficial program's `config/vox-256.yaml`, with its SPADE decoder."""
    return FaceVid2VidConfig(
        num_keypoints=15,
        spectral=False,
        compatibility="unofficial",
        generator=VolumeGeneratorConfig(kind="spade"),
    )


def vox_256_beta() -> FaceVid2VidConfig:
    """The unofficial program's `config/vox-256-beta.yaml`: its first release, with the plain decoder and keypoints
    detected at full resolution."""
    return FaceVid2VidConfig(
        num_keypoints=15,
        spectral=False,
        compatibility="unofficial-beta",
        keypoint_detector=CanonicalDetectorConfig(scale_factor=1.0),
    )


def at_size(config: FaceVid2VidConfig, size: int) -> FaceVid2VidConfig:
    """The same networks for frames of another size (coarse to fine training, 256² -> 512²): keypoints, pose and motion
    stay at the resolution they had, because their `scale_factor` shrinks as the frame grows; two scales of the
    discriminator at 512² and above."""
    factor = config.image_size / size

    def scaled(part: Any) -> Any:
        return dataclasses.replace(part, scale_factor=part.scale_factor * factor)

    scales = (1.0, 0.5) if size >= 512 else config.discriminator.scales
    return dataclasses.replace(
        config,
        image_size=size,
        keypoint_detector=scaled(config.keypoint_detector),
        head_pose=scaled(config.head_pose),
        dense_motion=scaled(config.dense_motion),
        discriminator=dataclasses.replace(config.discriminator, scales=scales),
    )


# --- keypoints ----------------------------------------------------------------------------------------------------


def rotation(config: FaceVid2VidConfig, angles: Float[Array, "n 3"]) -> Float[Array, "n 3 3"]:
    """Rotation matrices of (yaw, pitch, roll) in degrees, as a config's networks mean them."""
    yaw, pitch, roll = (angles[..., i] for i in range(3))
    if config.compatibility == "unofficial-beta":
        yaw, pitch, roll = pitch, roll, yaw
    return euler_to_matrix(yaw, pitch, roll, exact=config.compatibility == "none")


def composed(config: FaceVid2VidConfig, canonical: Float[Array, "m k 3"], pose: HeadPose) -> HeadMotion:
    """Heads of N frames with the canonical keypoints of one source, or of N (eq. 1)."""
    canonical = jnp.broadcast_to(canonical, pose.expression.shape)
    return HeadMotion(canonical, rotation(config, pose.angles), pose.translation, pose.expression)


def detected(positions: Float[Array, "n k 3"]) -> HeadMotion:
    """Keypoints that were detected directly, as heads without pose: all of their position is expression."""
    n = positions.shape[0]
    still = jnp.broadcast_to(jnp.eye(3, dtype=jnp.float32), (n, 3, 3))
    return HeadMotion(jnp.zeros_like(positions), still, jnp.zeros((n, 3), jnp.float32), positions)


def motion_spec(config: FaceVid2VidConfig) -> HeadSpec:
    """Layout of the heads that a config's networks give."""
    # The first release of the unofficial program turns heads about other axes than those of their angles.
    turns = config.keypoints != "direct" and config.compatibility != "unofficial-beta"
    fewest = config.min_keypoints if config.keypoint_dropout else None
    return HeadSpec(config.num_keypoints, fewest, turns, pitch_up=config.compatibility == "unofficial")


def drop_keypoints(heads: HeadMotion, count: Int[Array, " n"]) -> HeadMotion:
    """Ordered keypoint dropout of N driving frames in training (appendix C.2): of each frame the keypoints from index
    `count` on are left out; it is drawn from `config.min_keypoints` to K."""
    heads = dataclasses.replace(heads, count=count)
    return dataclasses.replace(heads, expression=jnp.where(heads.in_use[..., None], heads.expression, 0))


# --- generator ----------------------------------------------------------------------------------------------------


class SourceFeatures(NamedTuple):
    """Features computed once a source.

    Attributes:
      image: `[N, H, W, C]` the source itself.
      volume: `[N, D, h, w, F]` its feature volume; `[N, h, w, F · D]` with `warp="2d"`.
      compressed: the same space, a few channels: what the motion network warps.
    """

    image: Any
    volume: Any
    compressed: Any


class Generated(NamedTuple):
    """The generator's output: `prediction [N, H, W, C]` in [0, 1], the `motion` behind it, the `warped` volume, and the
    source warped at full resolution (`skip`) with its `share [N, H, W, 1]`, None without `source_skip`; `turned` is the
    motion of other heads, where they were given, and `turned_share` as `share`, where their frames were wanted."""

    prediction: Any
    motion: VolumeMotion
    warped: Any
    skip: Any = None
    share: Any = None
    turned: VolumeMotion | None = None
    turned_share: Any = None


class Generator(nn.Module):
    """Encode the source to a volume, warp it by the motion of the head, decode."""

    config: FaceVid2VidConfig
    axis_name: str | None = None
    dtype: Any = None

    def setup(self) -> None:
        c, g = self.config, self.config.generator
        dims, spade = 3 if c.warp == "3d" else 2, g.kind == "spade"
        shared: dict[str, Any] = {"spectral": c.spectral, "dtype": self.dtype}
        normed = {**shared, "axis_name": self.axis_name}
        self.appearance = AppearanceExtractor(
            g.block_expansion,
            g.num_down_blocks,
            g.max_features,
            g.volume_channels,
            g.volume_depth,
            g.num_resblocks,
            kernel=3 if spade else 7,
            dims=dims,
            **normed,
        )
        self.dense_motion = VolumeDenseMotion(
            c.dense_motion,
            c.num_keypoints,
            rotate=c.rotates_flows,
            dims=dims,
            estimate_occlusion=g.estimate_occlusion_map,
            estimate_depth=g.source_skip,
            corners=c.corners,
            align_corners=c.align_corners,
            points=c.mesh_points if c.keypoints == "mesh" else (),
            **normed,
        )
        self.projection = Projection(g.decoder_width, **normed)
        self.decoder = (SpadeDecoder if spade else PlainDecoder)(g, **normed)
        self.painter = Painter(c.num_channels, 3 if spade else 7, g.source_skip, **shared)

    def encode(self, source: Float[Array, "n h w c"], train: bool = False) -> SourceFeatures:
        """Everything that depends on the source alone."""
        volume = self.appearance(reduced(source, self.config.generator.reduce), train)
        return SourceFeatures(source, volume, self.dense_motion.compress(volume, train))

    def motion(
        self, encoded: SourceFeatures, source: HeadMotion, driving: HeadMotion, train: bool = False
    ) -> VolumeMotion:
        """Dense motion and occlusion at the motion network's size; both heads have the source's canonical keypoints."""
        return self.dense_motion(encoded.compressed, source, driving, train)

    def decode(self, encoded: SourceFeatures, motion: VolumeMotion, train: bool = False) -> Generated:
        """Warp the volume and decode it to images."""
        warped = self.deform(encoded.volume, motion.deformation)
        x = self.projection(warped, motion.occlusion_map, train)
        painted = self.painter(self.decoder(x, train), encoded.image, motion, train)
        return Generated(painted.prediction, motion, warped, painted.warped, painted.share)

    def deform(
        self, volume: Float[Array, "m *space c"], flow: Float[Array, "n *space2 dims"]
    ) -> Float[Array, "n *space c"]:
        """Backward warp; the flow is resized to the volume, and one volume serves all N flows."""
        n, space = flow.shape[0], volume.shape[1:-1]
        flow = resize_linear(flow, space)
        sample = grid_sample_3d if len(space) == 3 else grid_sample_2d
        if volume.shape[0] == 1 and n > 1:
            out = sample(volume, flow[None], align_corners=self.config.align_corners)
            return out.reshape(n, *space, -1)
        return sample(volume, flow, align_corners=self.config.align_corners)

    def __call__(
        self,
        source: Float[Array, "n h w c"],
        source_head: HeadMotion,
        driving_head: HeadMotion,
        train: bool = False,
        turned_head: HeadMotion | None = None,
        paint_turned: bool = False,
    ) -> Generated:
        """Source images in [0, 1] and both heads -> N generated frames; with other heads of the N sources, their motion
        too, which is decoded with `paint_turned` alone."""
        encoded = self.encode(source, train)
        if turned_head is None:
            return self.decode(encoded, self.motion(encoded, source_head, driving_head, train), train)
        # One pass over both, so that batch statistics are those of both.
        twice = jax.tree.map(_interleaved, encoded, encoded)
        sources = jax.tree.map(_interleaved, source_head, source_head)
        both = self.motion(twice, sources, jax.tree.map(_interleaved, driving_head, turned_head), train)
        motion, turned = (jax.tree.map(part, both) for part in (_even, _odd))
        if not paint_turned:
            return self.decode(encoded, motion, train)._replace(turned=turned)
        painted = self.decode(twice, both, train)
        return jax.tree.map(_even, painted)._replace(turned=turned, turned_share=_odd(painted.share))


def _interleaved(a: Array, b: Array) -> Array:
    """Rows of both in turn: a batch that is divided over devices stays where it is."""
    return jnp.stack([a, b], 1).reshape(2 * len(a), *a.shape[1:])


def _even(rows: Array) -> Array:
    return rows[::2]


def _odd(rows: Array) -> Array:
    return rows[1::2]


# --- the networks of a config -------------------------------------------------------------------------------------


def keypoint_detector(
    config: FaceVid2VidConfig, *, axis_name: str | None = None, dtype: Any = None
) -> CanonicalDetector:
    """The canonical keypoint detector a config describes."""
    c = config
    return CanonicalDetector(
        c.keypoint_detector, c.num_keypoints, c.estimate_jacobian, c.corners, c.spectral, axis_name, dtype
    )  # fmt: skip


def head_pose(config: FaceVid2VidConfig, *, axis_name: str | None = None, dtype: Any = None) -> HeadPoseEstimator:
    """The head pose and expression estimator a config describes; only with composed keypoints."""
    return HeadPoseEstimator(config.head_pose, config.num_keypoints, config.spectral, axis_name, dtype)


def generator(config: FaceVid2VidConfig, *, axis_name: str | None = None, dtype: Any = None) -> Generator:
    """The generator a config describes, appearance extractor and motion network inside."""
    return Generator(config, axis_name, dtype)


def discriminator(config: FaceVid2VidConfig, *, dtype: Any = None) -> MultiScaleDiscriminator:
    """The discriminator a config describes."""
    return MultiScaleDiscriminator(config.discriminator, dtype)


def example_inputs(config: FaceVid2VidConfig) -> tuple[Array, HeadMotion]:
    """Zeros of the shapes of the networks' inputs: an image, and a head in the middle that looks ahead."""
    image = jnp.zeros((1, config.image_size, config.image_size, config.num_channels), jnp.float32)
    return image, detected(jnp.zeros((1, config.num_keypoints, 3), jnp.float32))


def init(config: FaceVid2VidConfig, key: Array) -> dict[str, Any]:
    """Random weights.

    Args:
      config: the model.
      key: a PRNG key.

    Returns:
      `{"keypoint_detector": …, "head_pose": …, "generator": …, "discriminator": …}`, each a dictionary of Flax
      collections (`params`, `batch_stats`, and `spectral` where a layer is spectrally normalised); no `head_pose` with
      `keypoints="direct"`, and no detector either with `"mesh"`.
    """
    keys = jax.random.split(key, 4)
    image, head = example_inputs(config)
    variables = {
        "keypoint_detector": keypoint_detector(config).init(keys[0], image) if config.keypoints != "mesh" else None,
        "head_pose": head_pose(config).init(keys[1], image) if config.keypoints == "composed" else None,
        "generator": generator(config).init(keys[2], image, head, head),
        "discriminator": discriminator(config).init(keys[3], image),
    }
    return {name: tree for name, tree in variables.items() if tree is not None}

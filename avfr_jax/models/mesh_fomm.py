"""`mesh-fomm`: a compact First Order Motion Model with the face mesh as input.

FOMM (Siarohin et al. 2019) finds keypoints without supervision and lets a network mix their local motions into a dense
flow. Here the face mesh takes part: the smooth warp between two meshes (`landmark_warp`) is one more candidate motion,
and masks of the face's parts are further inputs of every network. The mesh moves the face from the first step of
training on; the learned keypoints are left for everything else: shoulders, hair, hands, a moving camera.

The frame is a mixture of three images with weights for each pixel: the layered warp of `landmark-warp` (the person as
a layer moved by the mesh, over a static background), the source warped by the dense flow, and a synthesised image. An
untrained model gives the first of them.

Further differences from FOMM, all for speed: features are warped at two scales, and no convolution runs at the frame's
full resolution.
"""

import dataclasses
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from avfr_jax.faces.face_parts import CHANNELS, face_part_masks
from avfr_jax.landmarks import NUM_LANDMARKS
from avfr_jax.models import landmark_warp
from avfr_jax.models.discriminators import DiscriminatorConfig, MultiScaleDiscriminator
from avfr_jax.models.keypoints import KeypointDetector, KeypointDetectorConfig
from avfr_jax.models.landmark_warp import LandmarkWarpConfig
from avfr_jax.motion import FaceMesh, Keypoints, MeshKeypoints, MeshKeypointSpec
from avfr_jax.nn.blocks import Hourglass, ResBlock, SameBlock, UpBlock
from avfr_jax.nn.layers import BatchNorm, Conv
from avfr_jax.ops.flow import sparse_motions, warp_by_each
from avfr_jax.ops.grids import pixel_grid
from avfr_jax.ops.heatmaps import heatmap_difference
from avfr_jax.ops.resize import average_pool, depth_to_space, resize_linear, space_to_depth
from avfr_jax.ops.sampling import grid_sample_2d
from avfr_jax.typing import Array, Float


@dataclasses.dataclass(frozen=True)
class MeshMotionConfig:
    """Settings of the motion network.

    Attributes:
      size: side of the square maps on which motion is estimated; keypoints are detected at the same size.
      block_expansion: width of the hourglass before its first doubling.
      num_blocks: levels of the hourglass.
      max_features: widest level.
      keypoint_variance: of the Gaussian heatmaps.
      mesh_share: log-odds with which the mesh's motion starts out against the others.
    """

    size: int = 64
    block_expansion: int = 16
    num_blocks: int = 4
    max_features: int = 256
    keypoint_variance: float = 0.01
    mesh_share: float = 3.0


@dataclasses.dataclass(frozen=True)
class MeshGeneratorConfig:
    """Settings of the generator.

    Attributes:
      fine: channels at half the frame's size.
      coarse: channels at a quarter of it.
      num_bottleneck_blocks: residual blocks at a quarter of the frame's size.
      shares: log-odds with which the three pictures start out: the layered warp's, the source warped by the dense flow,
        and the synthesised one.
    """

    fine: int = 32
    coarse: int = 64
    num_bottleneck_blocks: int = 4
    shares: tuple[float, float, float] = (2.0, 0.0, -1.0)


@dataclasses.dataclass(frozen=True)
class MeshFommConfig:
    """A whole model.

    Attributes:
      image_size: side of the square frames in pixels, a power of two times `motion.size`.
      num_keypoints: K learned keypoints beside the mesh.
    """

    image_size: int = 256
    num_keypoints: int = 12
    keypoint_detector: KeypointDetectorConfig = KeypointDetectorConfig(
        block_expansion=16,
        num_blocks=4,
        max_features=256,
        scale_factor=1.0,
        single_jacobian_map=True,
        head_kernel=3,
        padding=1,
    )
    motion: MeshMotionConfig = MeshMotionConfig()
    generator: MeshGeneratorConfig = MeshGeneratorConfig()
    discriminator: DiscriminatorConfig = DiscriminatorConfig(use_keypoints=False, block_expansion=16, max_features=128)


class MeshMotion(NamedTuple):
    """Estimated motion of N frames.

    Attributes:
      displacement: `[N, s, s, 2]`: from each position of the driving frame to that in the source, in half frames.
      occlusion_map: `[N, s, s, 1]` in [0, 1], 0 where the source is occluded.
      mask: `[N, s, s, K + 2]` share of each candidate: background, K keypoints, mesh.
    """

    displacement: Any
    occlusion_map: Any
    mask: Any


class EncodedSource(NamedTuple):
    """Features computed once a source: the `image`, `small` at the motion network's size with the person's mask behind
    its colours, features at half (`fine`) and a quarter (`coarse`) of the frame's size, and the `layers` of
    `landmark_warp`."""

    image: Any
    small: Any
    fine: Any
    coarse: Any
    layers: Any


class Generated(NamedTuple):
    """N frames `prediction` in [0, 1], the `motion` behind them, the source `warped` by it, the `layered` warp, and the
    `shares` `[N, H, W, 3]` of layered, warped and synthesised image in the frame."""

    prediction: Any
    motion: MeshMotion
    warped: Any
    layered: Any
    shares: Any


def shrink(frames: Float[Array, "n h w c"], size: int) -> Float[Array, "n size size c"]:
    """Frames at another, smaller size: the mean over each pixel's area."""
    factor = frames.shape[1] // size
    return average_pool(frames, (factor, factor)) if factor > 1 else frames


def mesh_displacement(config: LandmarkWarpConfig, source: FaceMesh, driving: FaceMesh) -> Float[Array, "n size size 2"]:
    """The smooth warp between two meshes, as `MeshMotion.displacement`; zero where either face is missing.

    Args:
      config: of the warp; `size` is the side of the result.
      source: mesh of N frames or one.
      driving: of N frames.
    """
    known = jnp.isfinite(driving.landmarks).all((1, 2)) & jnp.isfinite(source.positions).all((1, 2))
    if len(source) == 1:
        flow = landmark_warp.displacement(config, source.positions[0], driving)
    else:

        def one(face: Array, frame: FaceMesh) -> Array:
            return landmark_warp.displacement(config, face, jax.tree.map(lambda x: x[None], frame))[0]

        flow = jax.vmap(one)(source.positions, driving)
    flow = jnp.where(jnp.isfinite(flow) & known[:, None, None, None], flow, 0.0)
    return jax.lax.stop_gradient(flow)


class MotionNetwork(nn.Module):
    """Candidate motions and masks of the face's parts -> one dense displacement and an occlusion map."""

    config: MeshMotionConfig
    num_keypoints: int
    axis_name: str | None = None
    dtype: Any = None

    def setup(self) -> None:
        c, k = self.config, self.num_keypoints
        self.hourglass = Hourglass(c.block_expansion, c.num_blocks, c.max_features, 2, self.axis_name, self.dtype)

        def favour_the_mesh(key: Any, shape: tuple[int, ...]) -> Any:
            return jnp.zeros(shape, jnp.float32).at[k + 1].set(c.mesh_share).at[k + 2].set(2.0)

        self.heads = Conv(k + 3, (3, 3), 1, dtype=self.dtype, bias_init=favour_the_mesh)

    def __call__(
        self,
        small: Float[Array, "m s s 4"],
        source: Keypoints,
        driving: Keypoints,
        mesh: Float[Array, "n s s 2"],
        parts: Float[Array, "n s s d"],
        layered: Float[Array, "n s s 4"],
        train: bool = False,
    ) -> MeshMotion:
        """Estimate the motion.

        Args:
          small: the source and its person's mask at this network's size; one for all frames, or one a frame.
          source: learned keypoints of the source, one frame or N.
          driving: of N frames.
          mesh: the mesh's displacement.
          parts: masks of the driving face's parts.
          layered: the frame by `landmark_warp`, the person's opacity behind its colours.
          train: use and update the batch's own statistics.
        """
        n, s = mesh.shape[0], self.config.size
        grid = pixel_grid(s, s)
        motions = sparse_motions(source.value, driving.value, grid, source.jacobian, driving.jacobian)
        motions = jnp.concatenate([motions, (grid + mesh)[:, None]], axis=1)
        deformed = warp_by_each(small, motions, align_corners=False)
        heat = heatmap_difference(source.value, driving.value, grid, self.config.keypoint_variance)[..., 1:]
        candidates = jnp.moveaxis(deformed, 1, 3).reshape(n, s, s, -1)
        x = jnp.concatenate([candidates, heat, 4 * mesh, parts, layered], axis=-1)
        out = self.heads(self.hourglass(x, train)).astype(jnp.float32)
        mask = jax.nn.softmax(out[..., :-1], axis=-1)
        displacement = jnp.einsum("nhwk,nkhwd->nhwd", mask, motions - grid)
        return MeshMotion(displacement, nn.sigmoid(out[..., -1:]), mask)


class MeshGenerator(nn.Module):
    """Encode the source, estimate the motion, warp, decode."""

    config: MeshFommConfig
    axis_name: str | None = None
    dtype: Any = None

    def setup(self) -> None:
        c, g = self.config, self.config.generator
        shared = {"axis_name": self.axis_name, "dtype": self.dtype}
        self.motion_network = MotionNetwork(c.motion, c.num_keypoints, **shared)
        self.first = SameBlock(g.fine, **shared)
        self.down = Conv(g.coarse, (3, 3), 1, 2, dtype=self.dtype)
        self.down_norm = BatchNorm(self.axis_name)
        self.join = SameBlock(g.coarse, **shared)
        self.bottleneck = [ResBlock(g.coarse, **shared) for _ in range(g.num_bottleneck_blocks)]
        self.up = UpBlock(g.fine, **shared)
        self.merge = SameBlock(g.fine, **shared)

        def favour_the_layers(key: Any, shape: tuple[int, ...]) -> Any:
            return jnp.tile(jnp.array([0.0, 0.0, 0.0, *g.shares], jnp.float32), 4)

        self.final = Conv(24, (3, 3), 1, dtype=self.dtype, bias_init=favour_the_layers)

    @property
    def _layers(self) -> LandmarkWarpConfig:
        return LandmarkWarpConfig(size=self.config.image_size)

    def encode(
        self,
        source: Float[Array, "n h w 3"],
        landmarks: Float[Array, "n 478 3"],
        mask: Float[Array, "n h w"],
        train: bool = False,
    ) -> EncodedSource:
        """Everything that depends on the source alone; `mask` is 1 on the person."""
        half = source.shape[1] // 2
        parts = face_part_masks(landmarks, half).astype(source.dtype)
        fine = self.first(jnp.concatenate([space_to_depth(source, 2), parts], axis=-1), train)
        coarse = nn.relu(self.down_norm(self.down(fine), train))
        small = shrink(jnp.concatenate([source, mask[..., None]], axis=-1), self.config.motion.size)
        layers = jax.vmap(lambda *one: landmark_warp.encode_traced(self._layers, *one))(source, landmarks, mask)
        return EncodedSource(source, small, fine, coarse, jax.lax.stop_gradient(layers))

    def __call__(
        self, encoded: EncodedSource, source: MeshKeypoints, driving: MeshKeypoints, train: bool = False
    ) -> Generated:
        """Animate.

        Args:
          encoded: one source, or N.
          source: its keypoints, learned and mesh.
          driving: of N frames.
          train: use and update the batch's own statistics.
        """
        c, n = self.config, len(driving)
        size = encoded.image.shape[1]
        warp = LandmarkWarpConfig(size=c.motion.size, flow_size=c.motion.size)
        mesh = mesh_displacement(warp, source.mesh, driving.mesh)
        fine_parts = face_part_masks(driving.mesh.landmarks, size // 2)
        parts = [shrink(fine_parts, c.motion.size), shrink(fine_parts, size // 4), fine_parts]
        learned = source.learned, driving.learned
        layered = self._layered(encoded, source.mesh, driving.mesh)
        small = shrink(layered, c.motion.size)
        motion = self.motion_network(encoded.small, *learned, mesh, parts[0], small, train)
        warped = _warp(encoded.image, motion.displacement, n)
        x = _warp(encoded.coarse, motion.displacement, n) * _resized(motion.occlusion_map, size // 4)
        x = self.join(jnp.concatenate([x, parts[1].astype(x.dtype)], axis=-1), train)
        for block in self.bottleneck:
            x = block(x, train)
        fine = _warp(encoded.fine, motion.displacement, n) * _resized(motion.occlusion_map, size // 2)
        x = self.up(x, train)
        others = (fine, space_to_depth(layered, 2), parts[2])
        x = self.merge(jnp.concatenate([x, *(part.astype(x.dtype) for part in others)], axis=-1), train)
        out = depth_to_space(self.final(x), 2).astype(jnp.float32)
        shares = nn.softmax(out[..., 3:], axis=-1)
        layered = layered[..., :3]
        pictures = (layered, warped, nn.sigmoid(out[..., :3]))
        frames = sum(
            (picture * shares[..., i, None] for i, picture in enumerate(pictures)), jnp.zeros((), shares.dtype)
        )
        return Generated(frames, motion, warped, layered, shares)

    def _layered(self, encoded: EncodedSource, source: FaceMesh, driving: FaceMesh) -> Float[Array, "n h w 4"]:
        """Each frame by `landmark_warp`, with the person's opacity."""
        faces = source.positions
        if len(source) == 1:
            layers = jax.tree.map(lambda x: x[0], encoded.layers)
            frames = landmark_warp.render(self._layers, layers, faces[0], driving)
        else:

            def one(layers: Any, face: Any, frame: FaceMesh) -> Any:
                return landmark_warp.render(self._layers, layers, face, jax.tree.map(lambda x: x[None], frame))[0]

            frames = jax.vmap(one)(encoded.layers, faces, driving)
        return jax.lax.stop_gradient(frames)


def _resized(x: Float[Array, "n h w c"], size: int) -> Float[Array, "n size size c"]:
    return resize_linear(x, (size, size))


def _warp(image: Float[Array, "m h w c"], displacement: Float[Array, "n s s 2"], n: int) -> Float[Array, "n h w c"]:
    """Backward warp by a displacement that is enlarged first, border pixels repeated outside; one image serves all."""
    h, w = image.shape[1:3]
    grid = pixel_grid(h, w) + resize_linear(displacement, (h, w))
    if image.shape[0] == 1 and n > 1:
        out = grid_sample_2d(image, grid.reshape(1, n, h, w, 2), padding="border")
        return out.reshape(n, h, w, -1)
    return grid_sample_2d(image, grid, padding="border")


def detector_input(
    frames: Float[Array, "n h w 3"], landmarks: Float[Array, "n 478 3"], config: MeshFommConfig
) -> Float[Array, "n s s 11"]:
    """Input of the keypoint detector: the frame at the motion network's size, masks of the face's parts, and the
    coordinates of each pixel, without which all keypoints begin, and many stay, in one place."""
    size = config.motion.size
    parts = face_part_masks(landmarks, size).astype(frames.dtype)
    places = jnp.broadcast_to(pixel_grid(size, size).astype(frames.dtype), (frames.shape[0], size, size, 2))
    return jnp.concatenate([shrink(frames, size), parts, places], axis=-1)


def encode_and_animate(
    module: MeshGenerator,
    image: Float[Array, "n h w 3"],
    landmarks: Float[Array, "n 478 3"],
    mask: Float[Array, "n h w"],
    source: MeshKeypoints,
    driving: MeshKeypoints,
    train: bool = False,
) -> Generated:
    """Both halves of the generator at once, as training runs them (`method=` of Flax's `apply`)."""
    return module(module.encode(image, landmarks, mask, train), source, driving, train)


def motion_spec(config: MeshFommConfig) -> MeshKeypointSpec:
    """Layout of a config's motion."""
    return MeshKeypointSpec(config.num_keypoints)


def keypoint_detector(config: MeshFommConfig, *, axis_name: str | None = None, dtype: Any = None) -> KeypointDetector:
    """The detector a config describes; its input is `detector_input`."""
    return KeypointDetector(config.keypoint_detector, config.num_keypoints, True, axis_name, dtype)


def generator(config: MeshFommConfig, *, axis_name: str | None = None, dtype: Any = None) -> MeshGenerator:
    """The generator a config describes, its motion network inside."""
    return MeshGenerator(config, axis_name, dtype)


def discriminator(config: MeshFommConfig, *, dtype: Any = None) -> MultiScaleDiscriminator:
    """The discriminator a config describes."""
    return MultiScaleDiscriminator(config.discriminator, dtype)


def example_inputs(config: MeshFommConfig) -> tuple[Any, ...]:
    """Zeros of the shapes of the inputs of the detector (the first) and of `encode_and_animate`."""
    size, s, k = config.image_size, config.motion.size, config.num_keypoints
    zeros, eye = partial(jnp.zeros, dtype=jnp.float32), partial(jnp.eye, dtype=jnp.float32)
    image, face = zeros((1, size, size, 3)), zeros((1, NUM_LANDMARKS, 3))
    kp = Keypoints(zeros((1, k, 2)), jnp.broadcast_to(eye(2), (1, k, 2, 2)))
    motion = MeshKeypoints(kp, FaceMesh(face, eye(3)[None], zeros((1, 3)), face))
    return zeros((1, s, s, 5 + CHANNELS)), image, face, image[..., 0], motion, motion


def init(config: MeshFommConfig, key: Array) -> dict[str, Any]:
    """Random weights, in the form of `fomm.init`."""
    keys = jax.random.split(key, 3)
    inputs, image, *others = example_inputs(config)
    return {
        "keypoint_detector": keypoint_detector(config).init(keys[0], inputs),
        "generator": generator(config).init(keys[1], image, *others, method=encode_and_animate),
        "discriminator": discriminator(config).init(keys[2], image, None),
    }

"""FOMM for inference: the networks of `avfr_jax.models.fomm`, equal to rounding, with less arithmetic.

`prepare` folds the batch normalisations and transforms the kernels once (see `avfr_jax.nn.fast`); the other functions
are pure and take what it returned. What depends on the source alone is computed once, by `encode_source`.

    prepared = prepare(config, variables)
    encoded = encode_source(config, prepared, source)
    source_kp = detect(config, prepared, source)
    frames = animate(config, prepared, encoded, source_kp, detect(config, prepared, driving))

Jit them with the config static: `jax.jit(detect, static_argnums=0)`. Everything is float32.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from avfr_jax.models.dense_motion import Motion
from avfr_jax.models.fomm import FommConfig, SourceFeatures
from avfr_jax.motion import Keypoints
from avfr_jax.nn import fast
from avfr_jax.nn.inference import worth_winograd
from avfr_jax.ops.flow import dense_flow, sparse_motions, warp_by_each
from avfr_jax.ops.grids import corner_grid
from avfr_jax.ops.heatmaps import heatmap_difference, soft_argmax, spatial_softmax
from avfr_jax.ops.resize import antialias_kernel, resize_linear
from avfr_jax.ops.sampling import grid_sample_2d
from avfr_jax.typing import Array, Float

Tree = Mapping[str, Any]


class Layer(NamedTuple):
    """A convolution: `kernel` is an array `[kh, kw, C, O]` or one of the transformed kernels of `avfr_jax.nn.fast`
    (behind nearest upsampling, where it is an `UpsampleKernel`); `bias` `[O]`."""

    kernel: Any
    bias: Any


class Residual(NamedTuple):
    """A pre-activation residual block: x + second(relu(first(relu(gain x + offset)))); the inner
    normalisation is folded."""

    gain: Any
    offset: Any
    first: Layer
    second: Layer


class Hourglass(NamedTuple):
    """Layers of an hourglass, each followed by ReLU: `down` from the finest, `up` from the coarsest."""

    down: list[Layer]
    up: list[Layer]


class Decoder(NamedTuple):
    """The generator's `bottleneck` of residual blocks, its upsampling layers `up`, its last convolution `final`."""

    bottleneck: list[Residual]
    up: list[Layer]
    final: Layer


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Prepared:
    """Weights ready for inference, a pytree of float32 arrays.

    Attributes:
      detector: the keypoint detector's hourglass.
      detector_heatmaps: its convolution that gives the heatmaps.
      detector_jacobians: its convolution that gives the Jacobians, or None: an array `[kh, kw, C, K, 4]` (1 for K if
        they share one map).
      motion: the motion network's hourglass.
      motion_heads: masks and, if estimated, occlusion: one convolution.
      encoder: the generator's layers before the warp; a 2 × 2 average follows each but the first.
      decoder: those behind it; None for a family that has a decoder of its own.
    """

    detector: Hourglass
    detector_heatmaps: Layer
    detector_jacobians: Layer | None
    motion: Hourglass
    motion_heads: Layer
    encoder: list[Layer]
    decoder: Decoder | None


# --- preparing ------------------------------------------------------------------------------------------------------


def prepare(config: FommConfig, variables: Tree, *, reduce_arithmetic: bool | None = None) -> Prepared:
    """Fold and transform a model's weights, on the host.

    Args:
      config: the model.
      variables: as from `fomm.init` or a checkpoint: `keypoint_detector` and `generator`, each with `params` and
        `batch_stats`.
      reduce_arithmetic: transform kernels for fewer multiplications; by default where JAX computes on a CPU (an
        accelerator's plain convolutions are faster). Normalisations are folded in any case.
    """
    if reduce_arithmetic is None:
        reduce_arithmetic = jax.default_backend() == "cpu"
    make = _Maker(reduce_arithmetic)
    detector = variables["keypoint_detector"]
    generator = variables["generator"]
    weights, stats = generator["params"], generator["batch_stats"]
    motion, g = weights["dense_motion_network"], config.generator
    return Prepared(
        detector=make.hourglass(
            detector["params"]["predictor"], detector["batch_stats"]["predictor"], config.keypoint_detector.num_blocks
        ),
        detector_heatmaps=make.heads(detector["params"], ("kp",)),
        detector_jacobians=_jacobians(detector["params"]["jacobian"]) if config.estimate_jacobian else None,
        motion=make.hourglass(
            motion["hourglass"], stats["dense_motion_network"]["hourglass"], config.dense_motion.num_blocks
        ),
        motion_heads=make.heads(motion, ("mask", "occlusion") if g.estimate_occlusion_map else ("mask",)),
        encoder=[
            make.conv(weights[name], stats[name])
            for name in ("first", *(f"down_blocks_{i}" for i in range(g.num_down_blocks)))
        ],
        decoder=_decoder(make, config, weights, stats) if "final" in weights else None,
    )


def _decoder(make: "_Maker", config: FommConfig, weights: Tree, stats: Tree) -> Decoder:
    blocks = [f"bottleneck_{i}" for i in range(config.generator.num_bottleneck_blocks)]
    ups = [f"up_blocks_{i}" for i in range(config.generator.num_down_blocks)]
    return Decoder(
        bottleneck=[make.residual(weights[name], stats[name]) for name in blocks],
        up=[make.conv(weights[name], stats[name], upsample=True) for name in ups],
        final=make.plain(weights["final"]),
    )


class _Maker(NamedTuple):
    """Turns parameters into layers."""

    reduce: bool

    def _layer(self, kernel: np.ndarray, bias: np.ndarray, upsample: bool = False) -> Layer:
        transformed: Any = np.asarray(kernel, np.float32)
        if self.reduce and kernel.shape[:2] == (3, 3):
            if upsample:
                transformed = fast.upsample_kernel(kernel)
            elif worth_winograd(*kernel.shape[2:]):
                transformed = fast.winograd_kernel(kernel)
        return jax.tree.map(jnp.asarray, Layer(transformed, np.asarray(bias, np.float32)))

    def conv(self, weights: Tree, stats: Tree, upsample: bool = False, norm: str = "norm", name: str = "conv") -> Layer:
        """A convolution and the normalisation behind it."""
        kernel, bias = (np.asarray(weights[name][k]) for k in ("kernel", "bias"))
        kernel, bias = fast.fold_batch_norm(kernel, bias, *_normalisation(weights[norm], stats[norm]))
        return self._layer(kernel, bias, upsample)

    def residual(self, weights: Tree, stats: Tree) -> Residual:
        gain, offset = fast.batch_norm_affine(*_normalisation(weights["norm1"], stats["norm1"]))
        second = self.plain(weights["conv2"])
        first = self.conv(weights, stats, norm="norm2", name="conv1")
        return Residual(jnp.asarray(gain, jnp.float32), jnp.asarray(offset, jnp.float32), first, second)

    def hourglass(self, weights: Tree, stats: Tree, blocks: int) -> Hourglass:
        down = [(weights["encoder"][k], stats["encoder"][k]) for k in (f"down_blocks_{i}" for i in range(blocks))]
        up = [(weights["decoder"][k], stats["decoder"][k]) for k in (f"up_blocks_{i}" for i in range(blocks))]
        return Hourglass([self.conv(*pair) for pair in down], [self.conv(*pair, upsample=True) for pair in up])

    def plain(self, weights: Tree) -> Layer:
        """A convolution as it is."""
        return self._layer(np.asarray(weights["kernel"]), np.asarray(weights["bias"]))

    def heads(self, weights: Tree, names: tuple[str, ...]) -> Layer:
        """Convolutions of the same input as one."""
        kernel = np.concatenate([np.asarray(weights[n]["kernel"], np.float32) for n in names], axis=-1)
        bias = np.concatenate([np.asarray(weights[n]["bias"], np.float32) for n in names])
        if self.reduce:
            return jax.tree.map(jnp.asarray, Layer(fast.tap_kernel(kernel), bias))
        return self._layer(kernel, bias)


def _jacobians(weights: Tree) -> Layer:
    kernel, bias = (jnp.asarray(weights[k], jnp.float32) for k in ("kernel", "bias"))
    return Layer(kernel.reshape(*kernel.shape[:3], -1, 4), bias.reshape(-1, 4))


def _normalisation(weights: Tree, stats: Tree) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Scale, beta, mean and variance, in `fold_batch_norm`'s order."""
    scale, beta, mean, var = (np.asarray(x) for x in (weights["scale"], weights["bias"], stats["mean"], stats["var"]))
    return scale, beta, mean, var


# --- running ----------------------------------------------------------------------------------------------------------


def _apply(layer: Layer, x: Array, padding: int = 1, *, relu: bool = False) -> Array:
    kernel = layer.kernel
    if isinstance(kernel, fast.WinogradKernel):
        y = fast.conv3x3_winograd(x, kernel)
    elif isinstance(kernel, fast.TapKernel):
        y = fast.conv_few_outputs(x, kernel, padding)
    else:
        y = fast.convolve(x, kernel, padding)
    y = y + layer.bias
    return jax.nn.relu(y) if relu else y


def _upsample(layer: Layer, x: Array) -> Array:
    if isinstance(layer.kernel, fast.UpsampleKernel):
        return fast.upsample_conv3x3(x, layer.kernel, layer.bias, relu=True)
    return _apply(layer, jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2), relu=True)


def _halve(x: Array) -> Array:
    """Mean over 2 × 2 pixels as sums of strided slices, which vectorise where a window reduction does not."""
    h, w = x.shape[1] // 2 * 2, x.shape[2] // 2 * 2
    rows = x[:, 0:h:2] + x[:, 1:h:2]
    return (rows[:, :, 0:w:2] + rows[:, :, 1:w:2]) * 0.25


@functools.lru_cache(maxsize=8)
def _shrinking_matrix(size: int, scale: float) -> np.ndarray:
    """Matrix [new, size] of `antialias_downsample` along one axis."""
    step = round(1 / scale)
    line = np.sqrt(np.diag(antialias_kernel(scale)))
    half, new = len(line) // 2, -(-size // step)
    matrix = np.zeros((new, size + 2 * half), np.float32)
    for i in range(new):
        matrix[i, i * step : i * step + len(line)] = line / line.sum()
    return matrix[:, half : half + size]


def _shrink(x: Array, scale: float) -> Array:
    """`antialias_downsample` as two matrix products, which take a fifth of its time."""
    if scale == 1:
        return x
    down, across = (jnp.asarray(_shrinking_matrix(size, scale)) for size in x.shape[1:3])
    return jnp.einsum("jw,niwc->nijc", across, jnp.einsum("ih,nhwc->niwc", down, x))


def _hourglass(layers: Hourglass, x: Array) -> Array:
    levels = [x]
    for layer in layers.down:
        levels.append(_halve(_apply(layer, levels[-1], relu=True)))
    x = levels.pop()
    for layer in layers.up:
        x = jnp.concatenate([_upsample(layer, x), levels.pop()], axis=-1)
    return x


def detect(config: FommConfig, prepared: Prepared, frames: Float[Array, "n h w c"]) -> Keypoints:
    """Keypoints of N frames in [0, 1]; as `KeypointDetector`, without the heatmaps."""
    c = config.keypoint_detector
    features = _hourglass(prepared.detector, _shrink(frames, c.scale_factor))
    heatmap = spatial_softmax(_apply(prepared.detector_heatmaps, features, c.padding), c.temperature)
    value = soft_argmax(heatmap, corner_grid(*heatmap.shape[1:3]))
    head = prepared.detector_jacobians
    if head is None:
        return Keypoints(value)
    padded = jnp.pad(features, ((0, 0), (c.padding, c.padding), (c.padding, c.padding), (0, 0)))
    # The heatmaps sum to 1, so the bias passes through.
    jacobian = fast.weighted_conv_sums(padded, heatmap, head.kernel) + head.bias
    return Keypoints(value, jacobian.reshape(len(frames), config.num_keypoints, 2, 2))


def encode_source(config: FommConfig, prepared: Prepared, source: Float[Array, "m h w c"]) -> SourceFeatures:
    """What depends on the source alone; as `Generator.encode`."""
    x = source
    for i, layer in enumerate(prepared.encoder):
        x = _apply(layer, x, 3 if i == 0 else 1, relu=True)
        if i:
            x = _halve(x)
    return SourceFeatures(source, _shrink(source, config.dense_motion.scale_factor), x)


def estimate_motion(
    config: FommConfig, prepared: Prepared, encoded: SourceFeatures, source: Keypoints, driving: Keypoints
) -> Motion:
    """Dense motion of N frames; as `DenseMotion`."""
    n, (h, w), k = driving.value.shape[0], encoded.small.shape[1:3], config.num_keypoints
    grid = corner_grid(h, w)
    motions = sparse_motions(source.value, driving.value, grid, source.jacobian, driving.jacobian)
    deformed = warp_by_each(encoded.small, motions, align_corners=config.align_corners)
    heat = heatmap_difference(source.value, driving.value, grid, config.dense_motion.keypoint_variance)
    inputs = jnp.concatenate([heat[..., None], jnp.moveaxis(deformed, 1, 3)], axis=-1)
    maps = _apply(prepared.motion_heads, _hourglass(prepared.motion, inputs.reshape(n, h, w, -1)), 3)
    mask = jax.nn.softmax(maps[..., : k + 1], axis=-1)
    occlusion = jax.nn.sigmoid(maps[..., k + 1 :]) if config.generator.estimate_occlusion_map else None
    return Motion(dense_flow(mask, motions), occlusion, mask, deformed)


def move(
    config: FommConfig, features: Float[Array, "m h w f"], flow: Float[Array, "n h2 w2 2"], occlusion: Array | None
) -> Float[Array, "n h w f"]:
    """The source's features where the motion puts them, what is occluded hidden; as `Generator.move`."""
    size = features.shape[1:3]
    flow = resize_linear(flow, size)
    if features.shape[0] == 1:  # one source for all frames: rows of one long grid, read in place
        x = grid_sample_2d(features, flow[None], align_corners=config.align_corners)[0]
    else:
        x = grid_sample_2d(features, flow, align_corners=config.align_corners)
    return x if occlusion is None else x * resize_linear(occlusion, size)


def draw(decoder: Decoder, x: Float[Array, "n h w f"]) -> Float[Array, "n h4 w4 c"]:
    """Features in place -> frames; as `Generator.draw`."""
    for block in decoder.bottleneck:
        y = _apply(block.first, jax.nn.relu(x * block.gain + block.offset), relu=True)
        x = x + _apply(block.second, y)
    for layer in decoder.up:
        x = _upsample(layer, x)
    return jax.nn.sigmoid(_apply(decoder.final, x, 3))


def animate(
    config: FommConfig, prepared: Prepared, encoded: SourceFeatures, source: Keypoints, driving: Keypoints
) -> Float[Array, "n h w c"]:
    """N frames in [0, 1]; as the generator's prediction.

    Args:
      config: the model.
      prepared: from `prepare`.
      encoded: from `encode_source`, of one source or of N.
      source: the source's keypoints; one frame, or N.
      driving: keypoints of N frames, `relative_motion` applied if wanted.
    """
    decoder = prepared.decoder
    assert decoder is not None, "this family has a decoder of its own"
    motion = estimate_motion(config, prepared, encoded, source, driving)

    def one(features: Array, flow: Array, occlusion: Array | None) -> Array:
        return draw(decoder, move(config, features, flow, occlusion))

    return frame_by_frame(one, encoded.features, motion.deformation, motion.occlusion_map)


def frame_by_frame(function: Callable[..., Array], shared: Any, *each: Any) -> Array:
    """A function of N frames, on a CPU one frame at a time: its activations then stay in the cache from layer to layer.

    Args:
      function: takes `shared` and `each`, gives an array of N frames.
      shared: a pytree of arrays for one frame, which serves all, or for N.
      each: pytrees of arrays for N frames.
    """
    n = jax.tree.leaves(each)[0].shape[0]
    if n == 1 or jax.default_backend() != "cpu":
        return function(shared, *each)

    def one(index: Array) -> Array:
        def take(x: Array) -> Array:
            return x if x.shape[0] == 1 else jax.lax.dynamic_slice_in_dim(x, index, 1)

        return function(*jax.tree.map(take, (shared, *each)))[0]

    return jax.lax.map(one, jnp.arange(n))

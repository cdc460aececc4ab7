"""Training losses as pure functions of arrays.

Every one works under `jit`, `grad` and `vmap`, takes any float dtype, and computes its reductions in float32 (float64
where the input is float64), so that bfloat16 activations lose nothing in the mean. A function returns its term
unweighted, except where it sums over layers or scales.

Sources: FOMM (Siarohin et al. 2019) for the perceptual pyramid, feature matching and equivariance; face-vid2vid (Wang
et al. 2021) for keypoint prior, head pose and deformation; Goodfellow et al. 2014, Mao et al. 2017 (least squares) and
Lim and Ye 2017 (hinge) for the adversarial terms.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp

from avfr_jax.ops.matrices import small_inverse
from avfr_jax.ops.precision import widen
from avfr_jax.ops.resize import pyramid
from avfr_jax.ops.tps import RandomWarp, warp_jacobian, warp_points
from avfr_jax.typing import Array, Float

GanKind = Literal["non_saturating", "saturating", "least_squares", "hinge"]
FeaturesFn = Callable[[Any], Sequence[Any]]
SCALES = (1.0, 0.5, 0.25, 0.125)


def l1(prediction: Float[Array, "*shape"], target: Float[Array, "*shape"]) -> Float[Array, ""]:
    """Mean absolute difference over everything, in the inputs' unit."""
    return jnp.abs(widen(prediction) - widen(target)).mean()


def weighted_l1(
    prediction: Float[Array, "n h w c"], target: Float[Array, "n h w c"], weight: Float[Array, "n h w 1"]
) -> Float[Array, ""]:
    """Weighted mean absolute difference of each sample's pixels and channels, averaged over samples; a sample without
    any weight gives 0."""
    difference = (jnp.abs(widen(prediction) - widen(target)) * weight).mean(-1).sum((1, 2))
    return (difference / jnp.maximum(widen(weight).sum((1, 2, 3)), 1.0)).mean()


def pyramid_l1(
    prediction: Float[Array, "n h w c"],
    target: Float[Array, "n h w c"],
    *,
    scales: tuple[float, ...] = SCALES,
    weights: Sequence[float] | None = None,
) -> Float[Array, ""]:
    """Weighted sum of L1 over FOMM's anti-aliased pyramid.

    Args:
      prediction: images in [0, 1].
      target: the same; no gradient flows into it.
      scales: each 1 over a whole number.
      weights: one a scale; None takes their mean.
    """
    weights = (1 / len(scales),) * len(scales) if weights is None else weights
    target = jax.lax.stop_gradient(target)
    levels = zip(weights, pyramid(prediction, scales), pyramid(target, scales), strict=True)
    return sum((w * l1(a, b) for w, a, b in levels), jnp.zeros(()))


def perceptual(
    features_fn: FeaturesFn,
    prediction: Float[Array, "n h w c"],
    target: Float[Array, "n h w c"],
    *,
    weights: Sequence[float],
    scales: tuple[float, ...] = SCALES,
    normalise: bool = False,
) -> Float[Array, ""]:
    """Distance in the features of a frozen network, summed over layers and over FOMM's anti-aliased pyramid.

    FOMM's is VGG19's relu1_1 … relu5_1 with weights 10 each.

    Args:
      features_fn: images in [0, 1] -> feature arrays of any shapes, the network's own normalisation included.
      prediction: images in [0, 1].
      target: the same; no gradient flows into it or its features.
      weights: one a feature array.
      scales: each 1 over a whole number.
      normalise: divide each layer's mean absolute difference by the mean magnitude of the target's features there, so
        that layers of any network count alike and the loss has no unit.

    Raises:
      ValueError: as many weights as feature arrays are wanted.
    """
    target = jax.lax.stop_gradient(target)
    total = jnp.zeros(())
    for a, b in zip(pyramid(prediction, scales), pyramid(target, scales), strict=True):
        ours = features_fn(a)
        theirs = [jax.lax.stop_gradient(f) for f in features_fn(b)]
        if not len(ours) == len(theirs) == len(weights):
            raise ValueError(f"{len(weights)} weights given for {len(ours)} feature arrays")
        for weight, x, y in zip(weights, ours, theirs, strict=True):
            if weight:
                unit = jnp.abs(widen(y)).mean() + 1e-6 if normalise else 1.0
                total = total + weight * l1(x, y) / unit
    return total


def _maps(logits: Any) -> list[jax.Array]:
    """Maps of logits (one a discriminator) in any container, widened."""
    return [widen(x) for x in jax.tree.leaves(logits)]


def gan_generator_loss(logits: Any, kind: GanKind = "non_saturating") -> Float[Array, ""]:
    """Adversarial loss of a generator.

    Args:
      logits: a map of logits of any shape, before any sigmoid, or a list or dictionary of them (one a scale).
      kind: `non_saturating` -log D; `saturating` log(1 - D), as AVFR-GAN's eq. 2.3 is written; `least_squares`
        (1 - logit)², FOMM's; `hinge` -logit, face-vid2vid's.

    Returns:
      Mean over each map, summed over maps.

    Raises:
      ValueError: unknown kind.
    """
    terms: dict[str, Callable[[jax.Array], jax.Array]] = {
        "non_saturating": lambda x: jax.nn.softplus(-x),
        "saturating": lambda x: -jax.nn.softplus(x),
        "least_squares": lambda x: (1 - x) ** 2,
        "hinge": lambda x: -x,
    }
    if kind not in terms:
        raise ValueError(f"unknown adversarial loss {kind!r}: choose one of {', '.join(terms)}")
    return sum((terms[kind](x).mean() for x in _maps(logits)), jnp.zeros(()))


def gan_discriminator_loss(real: Any, fake: Any, kind: GanKind = "non_saturating") -> Float[Array, ""]:
    """Adversarial loss of a discriminator: its mean losses on real and on generated images, summed over maps.

    Args:
      real: logits of real images; see `gan_generator_loss`.
      fake: logits of generated images, in the same container.
      kind: as for the generator; the two cross-entropy kinds are the same here.

    Raises:
      ValueError: unknown kind.
    """
    cross_entropy = (lambda x: jax.nn.softplus(-x), jax.nn.softplus)
    terms: dict[str, tuple[Callable[[jax.Array], jax.Array], Callable[[jax.Array], jax.Array]]] = {
        "non_saturating": cross_entropy,
        "saturating": cross_entropy,
        "least_squares": (lambda x: (1 - x) ** 2, lambda x: x**2),
        "hinge": (lambda x: jax.nn.relu(1 - x), lambda x: jax.nn.relu(1 + x)),
    }
    if kind not in terms:
        raise ValueError(f"unknown adversarial loss {kind!r}: choose one of {', '.join(terms)}")
    on_real, on_fake = terms[kind]
    pairs = zip(_maps(real), _maps(fake), strict=True)
    return sum((on_real(r).mean() + on_fake(f).mean() for r, f in pairs), jnp.zeros(()))


def feature_matching(real_maps: Sequence[Any], fake_maps: Sequence[Any], weights: Sequence[float]) -> Float[Array, ""]:
    """L1 between a discriminator's feature maps of real and generated images, weighted by layer (FOMM: 10 each).

    Args:
      real_maps: one array a layer; no gradient flows into them.
      fake_maps: the same of the generated images.
      weights: one a layer.
    """
    layers = zip(weights, real_maps, fake_maps, strict=True)
    return sum((w * l1(f, jax.lax.stop_gradient(r)) for w, r, f in layers), jnp.zeros(()))


def equivariance_value(
    kp_driving: Float[Array, "n k d"], kp_transformed: Float[Array, "n k d"], warp: RandomWarp
) -> Float[Array, ""]:
    """Distance of a frame's keypoints from those of the warped frame, mapped back (FOMM, section 3.3).

    Args:
      kp_driving: keypoints (x, y[, z]) in [-1, 1] of the frame; of those in 3-D the projection (x, y) counts (Wang et
        al. 2021, appendix A.2).
      kp_transformed: keypoints of `ops.tps.warp_frames(warp, frame)`.
      warp: the random warp.

    Returns:
      Mean absolute difference, in units of half a frame.
    """
    return l1(kp_driving[..., :2], warp_points(warp, widen(kp_transformed[..., :2])))


def equivariance_jacobian(
    jacobian_driving: Float[Array, "n k d d"],
    jacobian_transformed: Float[Array, "n k d d"],
    kp_transformed: Float[Array, "n k d"],
    warp: RandomWarp,
) -> Float[Array, ""]:
    """`equivariance_value` for Jacobians (FOMM, section 3.3): the mean of |I - J_d⁻¹ (∇T J_t)|.

    Args:
      jacobian_driving: of the frame; of 3 × 3 ones the upper left 2 × 2 counts.
      jacobian_transformed: of the warped frame.
      kp_transformed: its keypoints, where the warp's own Jacobian ∇T is taken.
      warp: the random warp.
    """
    at = warp_jacobian(warp, widen(kp_transformed[..., :2]))
    driving, transformed = (widen(j[..., :2, :2]) for j in (jacobian_driving, jacobian_transformed))
    carried = jnp.einsum("nkij,nkjl->nkil", at, transformed, precision="highest")
    ratio = jnp.einsum("nkij,nkjl->nkil", small_inverse(driving), carried, precision="highest")
    return jnp.abs(jnp.eye(2, dtype=ratio.dtype) - ratio).mean()


def keypoint_spread(value: Float[Array, "n k d"], least: float) -> Float[Array, ""]:
    """Penalty on keypoints close to each other: the mean over pairs of max(0, least - distance²) (Wang et al. 2021, the
    keypoint prior loss, which sums over pairs).

    Args:
      value: positions in [-1, 1].
      least: a squared distance.
    """
    value = widen(value)
    k = value.shape[1]
    squares = jnp.sum((value[:, :, None] - value[:, None]) ** 2, axis=-1)
    close = jnp.maximum(least - squares, 0.0) * (1 - jnp.eye(k, dtype=squares.dtype))
    return close.sum((1, 2)).mean() / (k * (k - 1))


def keypoint_prior(value: Float[Array, "n k 3"], *, least: float = 0.1, depth: float = 0.33) -> Float[Array, ""]:
    """face-vid2vid's keypoint prior loss (Wang et al. 2021, eq. 5): the sum over ordered pairs of max(0, D_t -
    distance²), each keypoint's pair with itself included, plus the distance of the mean depth from z_t; averaged over
    samples.

    Args:
      value: positions (x, y, z) in [-1, 1].
      least: D_t, a squared distance.
      depth: z_t.
    """
    value = widen(value)
    # The unofficial program's distances are taken a millionth off, which its gradients show.
    squares = jnp.sum((value[:, :, None] - value[:, None] + 1e-6) ** 2, axis=-1)
    close = jnp.maximum(least - squares, 0.0).sum((1, 2))
    return (close + jnp.abs(value[..., 2].mean(1) - depth)).mean()


def head_pose(angles: Float[Array, "n 3"], target: Float[Array, "n 3"]) -> Float[Array, ""]:
    """face-vid2vid's head pose loss (Wang et al. 2021, appendix A.2): the absolute differences of yaw, pitch and roll
    in degrees, summed, averaged over samples; a target of NaN counts as met, and no gradient flows into targets."""
    return jnp.abs(_known_difference(angles, target)).sum(-1).mean()


def deformation(expression: Float[Array, "n k 3"]) -> Float[Array, ""]:
    """face-vid2vid's deformation prior loss (Wang et al. 2021, appendix A.2): the L1 norm of all offsets of a frame,
    averaged over frames."""
    return jnp.abs(widen(expression)).sum((1, 2)).mean()


def known_l1(prediction: Float[Array, "*shape"], target: Float[Array, "*shape"]) -> Float[Array, ""]:
    """`l1` where the target is a number: targets of NaN count as met. No gradient flows into the target."""
    return jnp.abs(_known_difference(prediction, target)).mean()


def _known_difference(prediction: Array, target: Array) -> Array:
    """Prediction less target; 0 where the target is NaN, whose gradient would otherwise be NaN too."""
    target = jax.lax.stop_gradient(widen(target))
    known = ~jnp.isnan(target)
    return jnp.where(known, widen(prediction) - jnp.where(known, target, 0.0), 0.0)

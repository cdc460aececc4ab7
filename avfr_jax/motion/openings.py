"""Transfer of a face's shape to another face: lips and lids as openings, the rest as change.

Adding the change of the driving face since a reference frame to the source's face leaves a mouth open that the source
shows open and the reference shut, however far the driver shuts it. The gaps between the edges of mouth and eyes are
therefore absolute: a lip's gap is the driver's in units of the head, a lid's is the driver's in units of how far the
driver's eye is open, times how far the source's is. The corners, the brows and everything else move by change.

Shapes are those of `FaceMesh`: pose removed, y down, an average head measures 1.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from avfr_jax import landmarks as points
from avfr_jax.typing import Array, Float

# Of 0.02 a pixel where a head fills a frame of 256 × 256; trackers see a shut mouth 0.00 to 0.02 open.
_SHUT_LIPS = 0.03
# Gaps over the width of an eye. Trackers see shut eyes 0.00 to 0.05, open ones 0.13 to 0.4 open.
_SHUT_LIDS = 0.06
_OPEN_LIDS = 0.05, 0.11  # from surely shut to surely open
_USUAL_LIDS = 0.26  # median of 40 people
_SAME_FACE = 0.01  # root-mean-square difference of two faces up to which they are one picture tracked twice

_FULL_SHARE = 0.15  # of the largest displacement by the jaw: from there on a landmark is the mouth's
_UPPER_LIP_SHARE, _UPPER_LID_SHARE = 0.25, 0.85  # of a change of the gap


@dataclasses.dataclass(frozen=True)
class _Aperture:
    """An opening between two edges.

    Attributes:
      upper, lower: `[P]` landmarks of the edges, from one corner to the other without the corners, pair by pair.
      corners: two landmarks.
      weights: `[P, 478]` displacement (y) of every landmark when the gap of a pair grows by one.
    """

    upper: tuple[int, ...]
    lower: tuple[int, ...]
    corners: tuple[int, int]
    weights: np.ndarray

    def gaps(self, shape: Float[Array, "n 478 3"]) -> Float[Array, "n p"]:
        """How far each pair is apart along y; a little negative where a tracker lets shut edges cross."""
        return shape[:, np.array(self.lower), 1] - shape[:, np.array(self.upper), 1]

    def width(self, shape: Float[Array, "n 478 3"]) -> Float[Array, " n"]:
        """Distance of the corners."""
        a, b = self.corners
        return jnp.sqrt(((shape[:, a] - shape[:, b]) ** 2).sum(-1) + 1e-12)


@functools.cache
def _mouth() -> _Aperture:
    """The four rings of the lips move as one."""
    upper, lower = points.MOUTH_UPPER[1:-1], points.MOUTH_LOWER[1:-1]
    count = len(upper)
    weights = np.zeros((count, points.NUM_LANDMARKS), np.float32)
    for ring in points.LIP_RINGS:
        for pair in range(count):
            weights[pair, ring[-1 - pair]] = -_UPPER_LIP_SHARE
            weights[pair, ring[1 + pair]] = 1 - _UPPER_LIP_SHARE
    return _Aperture(upper, lower, (points.MOUTH_UPPER[0], points.MOUTH_UPPER[-1]), weights)


@functools.cache
def _eye(left: bool) -> _Aperture:
    """The lids' edges move, and half as far the skin beside them."""
    outline = (
        (points.LEFT_EYE_UPPER, points.LEFT_EYE_LOWER) if left else (points.RIGHT_EYE_UPPER, points.RIGHT_EYE_LOWER)
    )
    upper, lower = (edge[1:-1] for edge in outline)
    above, below = points.LEFT_LIDS if left else points.RIGHT_LIDS
    weights = np.zeros((len(upper), points.NUM_LANDMARKS), np.float32)
    for pair in range(len(upper)):
        weights[pair, upper[pair]], weights[pair, above[pair]] = -_UPPER_LID_SHARE, -_UPPER_LID_SHARE / 2
        weights[pair, lower[pair]], weights[pair, below[pair]] = 1 - _UPPER_LID_SHARE, (1 - _UPPER_LID_SHARE) / 2
    return _Aperture(upper, lower, (outline[0][0], outline[0][-1]), weights)


def transfer_shape(
    source: Float[Array, "1 478 3"],
    driving: Float[Array, "n 478 3"],
    initial: Float[Array, "1 478 3"],
    lids: Float[Array, "2"] | None = None,
) -> Float[Array, "n 478 3"]:
    """The source's face with the driving face's expression.

    Args:
      source: `FaceMesh.shape` of the source.
      driving: of N driving frames.
      initial: of the driving frame that corresponds to the source. Where it is the source itself, the result is
        `driving`.
      lids: how far the driver's eyes are open at rest, see `lid_levels`; None takes it from `initial`.

    Returns:
      N shapes. Where the driving lips or lids are shut, the source's are, up to their corners.
    """
    other = _smooth_step(((source - initial) ** 2).sum(-1).mean(-1) / _SAME_FACE**2)[:, None]
    shape = source + (driving - initial) + _mouth_correction(source, initial)
    shape = _with_gaps(shape, _mouth(), _shrink(_mouth().gaps(driving), _SHUT_LIPS, other))
    for side, eye in enumerate((_eye(False), _eye(True))):
        theirs = _opening(eye, initial) if lids is None else lids[side].reshape(1, 1)
        shape = _with_gaps(shape, eye, _lid_gaps(eye, source, driving, initial, theirs, other))
    return shape


@jax.jit
def lid_levels(driving: Float[Array, "n 478 3"]) -> Float[Array, "2"]:
    """How far eyes are open at rest: the median of many frames, which leaves out blinks.

    Args:
      driving: `FaceMesh.shape` of frames spread over a clip.

    Returns:
      Gap in the middle over width, of the right and the left eye.
    """
    return jnp.stack([jnp.median(_opening(_eye(left), driving)) for left in (False, True)])


@functools.cache
def mouth_share() -> Float[np.ndarray, "478 1"]:
    """How far each landmark belongs to the mouth, 0 to 1: lips and jaw 1, cheeks less, the rest of the head 0."""
    moves = np.linalg.norm(points.mouth_opening(), axis=-1)
    share = np.clip(moves / (_FULL_SHARE * moves.max()), 0, 1)
    share[[point for ring in points.LIP_RINGS for point in ring]] = 1
    share[list(points.RIGID)] = 0
    return np.asarray(share[:, None], np.float32)


def close_lips(shape: Float[Array, "n 478 3"]) -> Float[Array, "n 478 3"]:
    """The same faces with the lips' inner edges meeting, for mouths that are all but shut: the jaw does not move."""
    return _with_gaps(shape, _mouth(), jnp.zeros((1, 1), shape.dtype))


def _mouth_correction(source: Float[Array, "1 478 3"], initial: Float[Array, "1 478 3"]) -> Float[Array, "1 478 3"]:
    """Opens or shuts the source's mouth, jaw and all, as far as the initial face's is open."""
    middle = len(_mouth().upper) // 2
    opening = _mouth().gaps(initial)[:, middle] - _mouth().gaps(source)[:, middle]
    return opening[:, None, None] * points.mouth_opening()


def _lid_gaps(
    eye: _Aperture, source: Array, driving: Array, initial: Array, theirs: Array, other: Array
) -> Float[Array, "n p"]:
    """Gaps of the source's lids: the driver's, scaled by how far the two eyes are open at rest, in the form of the
    source's own. `theirs` is the driver's opening at rest."""
    width, reference_width = eye.width(source)[:, None], eye.width(initial)[:, None]
    ours = _opening(eye, source)
    # A shut eye does not show how far it opens: then a usual eye does, or, for the source, the driver's.
    their_rest = _USUAL_LIDS + _is_open(theirs) * (theirs - _USUAL_LIDS)
    our_rest = their_rest + _is_open(ours) * (ours - their_rest)
    scale = 1 + other * (our_rest * width / (their_rest * reference_width) - 1)
    gaps = _shrink(eye.gaps(driving), _SHUT_LIDS * reference_width, other)
    wide = jnp.maximum(_opening(eye, driving) / their_rest, 1)  # beyond rest, eyes open no further than the driver's
    gaps = gaps * (jnp.minimum(scale, 1) + jnp.maximum(scale - 1, 0) / wide)
    form = _form(eye, source) - _form(eye, initial)
    return gaps + _is_open(ours) * _is_open(_opening(eye, initial)) * gaps.mean(-1, keepdims=True) * form


def _form(eye: _Aperture, shape: Float[Array, "n 478 3"]) -> Float[Array, "n p"]:
    """Gaps over their mean."""
    gaps = eye.gaps(shape)
    return gaps / jnp.maximum(gaps.mean(-1, keepdims=True), 1e-3)


def _opening(eye: _Aperture, shape: Float[Array, "n 478 3"]) -> Float[Array, "n 1"]:
    """Mean gap in the middle of an eye over its width."""
    return (eye.gaps(shape)[:, 2:5].mean(-1) / eye.width(shape))[:, None]


def _is_open(opening: Float[Array, "n 1"]) -> Float[Array, "n 1"]:
    low, high = _OPEN_LIDS
    return _smooth_step((opening - low) / (high - low))


def _with_gaps(
    shape: Float[Array, "n 478 3"], aperture: _Aperture, gaps: Float[Array, "#n #p"]
) -> Float[Array, "n 478 3"]:
    """The face with these gaps in the place of its own."""
    return jnp.asarray(shape).at[..., 1].add((gaps - aperture.gaps(shape)) @ aperture.weights)


def _shrink(gaps: Array, shut: Array | float, amount: Array) -> Array:
    """Gaps that go smoothly to 0 below `shut`, where they are noise of the tracker, by `amount` from 0 to 1."""
    return gaps * (1 - amount * (1 - _smooth_step(gaps / shut)))


def _smooth_step(x: Array) -> Array:
    t = jnp.clip(x, 0, 1)
    return t * t * (3 - 2 * t)

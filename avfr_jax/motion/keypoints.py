"""Learned keypoints with or without Jacobians, in two or three dimensions (FOMM, Siarohin et al. 2019)."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from avfr_jax.motion.base import Component, Frames, MotionMode, MotionSpec
from avfr_jax.ops.matrices import hull_area, small_inverse
from avfr_jax.typing import Array, Float

POSITION_SCALE = 128.0
"""Pixels of a 256 × 256 frame in one unit of [-1, 1]."""
_JACOBIAN_SCALE = 64.0  # a Jacobian's entry of 1/64 does as much as a pixel


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Keypoints(Frames):
    """Keypoints of N frames. A pytree: it passes through jit, vmap and grad.

    Attributes:
      value: `[N, K, 2]` or `[N, K, 3]`, (x, y[, z]) in [-1, 1].
      jacobian: `[N, K, 2, 2]` or `[N, K, 3, 3]`, row-major local affine maps, or None.
    """

    value: Any
    jacobian: Any = None

    @property
    def positions(self) -> Any:
        """See `Motion.positions`."""
        return self.value


@dataclasses.dataclass(frozen=True)
class KeypointSpec(MotionSpec):
    """Layout of `Keypoints`: positions, then Jacobians.

    Attributes:
      num_keypoints: K.
      jacobians: whether there are any.
      dims: 2 or 3.
    """

    num_keypoints: int
    jacobians: bool = True
    dims: int = 2

    @property
    def components(self) -> tuple[Component, ...]:
        """See `MotionSpec.components`."""
        k, d = self.num_keypoints, self.dims
        positions = Component("keypoints", (k, d), "pixels at 256 × 256", POSITION_SCALE)
        if not self.jacobians:
            return (positions,)
        return positions, Component("jacobians", (k, d, d), "1/64", _JACOBIAN_SCALE)

    def flatten(self, motion: Keypoints) -> Float[Array, "n d"]:
        """See `MotionSpec.flatten`."""
        parts = [motion.value, motion.jacobian] if self.jacobians else [motion.value]
        return jnp.concatenate([jnp.asarray(part, jnp.float32).reshape(len(motion), -1) for part in parts], axis=1)

    def unflatten(self, numbers: Any, source: Any = None) -> Keypoints:
        """See `MotionSpec.unflatten`."""
        parts = {name: jnp.asarray(part, jnp.float32) for name, part in self.split(numbers).items()}
        return Keypoints(parts["keypoints"], parts["jacobians"] if self.jacobians else None)

    def retarget(
        self,
        source: Keypoints,
        driving: Keypoints,
        initial: Keypoints,
        *,
        mode: MotionMode = "relative",
        adapt_scale: bool = True,
        lids: Float[Array, "2"] | None = None,
    ) -> Keypoints:
        """See `MotionSpec.retarget`; FOMM, section 3.3."""
        if mode == "absolute":
            return driving
        scale = movement_scale(source.value, initial.value) if adapt_scale else 1.0
        return relative_motion(source, driving, initial, scale)


def movement_scale(source: Float[Array, "m k d"], initial: Float[Array, "m k d"]) -> float:
    """FOMM's adaptive scale: sqrt(hull area of the source) / sqrt(hull area of the first driving frame); 1 if either
    hull is empty. Computed on the host, once a clip, of the first frame's (x, y)."""
    ours = hull_area(np.asarray(source[0, :, :2]))
    theirs = hull_area(np.asarray(initial[0, :, :2]))
    return float(np.sqrt(ours) / np.sqrt(theirs)) if ours > 0 and theirs > 0 else 1.0


def relative_motion(
    source: Keypoints,
    driving: Keypoints,
    initial: Keypoints,
    scale: float | Array = 1.0,
    *,
    use_jacobian: bool = True,
) -> Keypoints:
    """Move the source's keypoints as the driving ones have moved since `initial` (FOMM, section 3.3).

    value = source + scale * (driving - initial); jacobian = driving · initial⁻¹ · source. The Jacobian is not scaled.

    Args:
      source: one frame.
      driving: N frames.
      initial: one frame, the driving pose that corresponds to the source's.
      scale: see `movement_scale`.
      use_jacobian: False keeps the driving Jacobians as they are.

    Returns:
      Keypoints of N frames.
    """
    value = (driving.value - initial.value) * scale + source.value
    jacobian = driving.jacobian
    if jacobian is not None and use_jacobian:
        change = jnp.einsum("nkij,nkjl->nkil", jacobian, small_inverse(initial.jacobian))
        jacobian = jnp.einsum("nkij,nkjl->nkil", change, jnp.broadcast_to(source.jacobian, change.shape))
    return Keypoints(value, jacobian)

"""A head with canonical 3-D keypoints (face-vid2vid, Wang et al. 2021, eq. 1): x = R x_c + t + δ.

The canonical keypoints are the person's and come from the source picture alone; rotation, translation and expression
are a frame's.
"""

import dataclasses
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from avfr_jax.motion.base import Component, Frames, Keep, MotionMode, MotionSpec
from avfr_jax.motion.keypoints import POSITION_SCALE
from avfr_jax.motion.view import LARGEST_TURN, PoseChange, Turned, turned_rotation
from avfr_jax.ops.rotations import euler_to_matrix, matrix_to_euler
from avfr_jax.typing import Array, Bool, Float

_DEGREE_SCALE = 2.0  # a head 0.5 wide turned by half a degree moves by about a pixel of 256


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class HeadMotion(Frames):
    """Heads of N frames. A pytree.

    Attributes:
      canonical: `[N, K, 3]` keypoints (x, y, z) of the neutral head seen from the front.
      rotation: `[N, 3, 3]`, in axes x to the image's right, y down, z away from the camera, as `FaceMesh.rotation` and
        `faces.HeadPose.rotation`: its Euler angles (`ops.rotations`) are HeadPose's with yaw and pitch negated.
      translation: `[N, 3]` in the units of [-1, 1].
      expression: `[N, K, 3]` δ.
      count: `[N]`: of each frame, the keypoints in use are those with an index below it, in order; None uses all.
    """

    canonical: Any
    rotation: Any
    translation: Any
    expression: Any
    count: Any = None

    @property
    def in_use(self) -> Any:
        """`[N, K]` bool: the keypoints that move the frames."""
        shape = self.expression.shape[:2]
        if self.count is None:
            return jnp.ones(shape, bool)
        return jnp.arange(shape[1]) < jnp.asarray(self.count)[:, None]

    @property
    def positions(self) -> Any:
        """See `Motion.positions`: the composed keypoints, `[N, K, 3]`, of those that are not in use too."""
        turned = jnp.einsum("nij,nkj->nki", self.rotation, self.canonical)
        return turned + self.translation[:, None] + self.expression


@dataclasses.dataclass(frozen=True)
class HeadSpec(MotionSpec):
    """Layout of `HeadMotion`: three angles, three translations, 3 K expression offsets; the canonical keypoints are
    not sent. A model that was trained with ordered keypoint dropout (appendix C.2) needs the first keypoints alone, and
    the frame's count is one number more.

    Attributes:
      num_keypoints: K.
      min_keypoints: the fewest that the model was trained to move a frame with; None needs all.
      turns: whether a changed rotation turns the head in the picture; False where the keypoints are all expression, or
        turn about other axes.
      pitch_up: the pitch of `HeadMotion.rotation` grows upwards, as Hopenet's, which the unofficial program's networks
        were trained with; the sign of the other angles is as usual, so that it is no rotation of these axes.
    """

    needs_source = True
    keeps: ClassVar[tuple[Keep, ...]] = ("pose", "expression")
    num_keypoints: int
    min_keypoints: int | None = None
    turns: bool = True
    pitch_up: bool = False

    @property
    def max_turn(self) -> float:
        """See `MotionSpec.max_turn`."""
        return LARGEST_TURN if self.turns else 0.0

    @property
    def components(self) -> tuple[Component, ...]:
        """See `MotionSpec.components`."""
        unit, expression = "pixels at 256 × 256", (self.num_keypoints, 3)
        pose = (
            Component("rotation", (3,), "half degrees (yaw, pitch, roll)", _DEGREE_SCALE, interpolation="angles"),
            Component("translation", (3,), unit, POSITION_SCALE),
        )
        if self.min_keypoints is None:
            return *pose, Component("expression", expression, unit, POSITION_SCALE)
        return (
            *pose,
            Component("count", (1,), "keypoints", 1.0),
            Component("expression", expression, unit, POSITION_SCALE, counted_by="count", min_rows=self.min_keypoints),
        )

    def flatten(self, motion: HeadMotion) -> Float[Array, "n d"]:
        """See `MotionSpec.flatten`; rotations as (yaw, pitch, roll) in degrees."""
        angles = jnp.stack(matrix_to_euler(motion.rotation), axis=-1)
        parts = [angles, motion.translation, motion.expression]
        if self.min_keypoints is not None:
            count = jnp.full(len(motion), self.num_keypoints) if motion.count is None else motion.count
            parts.insert(2, count)
        return jnp.concatenate([jnp.asarray(part, jnp.float32).reshape(len(motion), -1) for part in parts], axis=1)

    def unflatten(self, numbers: Any, source: Any = None) -> HeadMotion:
        """See `MotionSpec.unflatten`; the canonical keypoints are the source's, and keypoints that are not in use
        have no expression."""
        if source is None:
            raise ValueError("a head's canonical keypoints come from the source: pass its motion")
        parts = {name: jnp.asarray(part, jnp.float32) for name, part in self.split(numbers).items()}
        yaw, pitch, roll = (parts["rotation"][:, i] for i in range(3))
        heads = HeadMotion(
            _repeated(source.canonical, len(numbers)),
            euler_to_matrix(yaw, pitch, roll),
            parts["translation"],
            parts["expression"],
        )
        if self.min_keypoints is None:
            return heads
        count = jnp.clip(parts["count"][:, 0], self.min_keypoints, self.num_keypoints)
        heads = dataclasses.replace(heads, count=count)
        return dataclasses.replace(heads, expression=jnp.where(heads.in_use[..., None], heads.expression, 0))

    def retarget(
        self,
        source: HeadMotion,
        driving: HeadMotion,
        initial: HeadMotion,
        *,
        mode: MotionMode = "relative",
        adapt_scale: bool = True,
        lids: Float[Array, "2"] | None = None,
    ) -> HeadMotion:
        """See `MotionSpec.retarget`; the canonical keypoints are the source's in either mode. `adapt_scale` changes
        nothing: canonical heads are of one size."""
        canonical = _repeated(source.canonical, len(driving))
        if mode == "absolute":
            return dataclasses.replace(driving, canonical=canonical)
        turn = jnp.einsum("nij,mkj->nik", driving.rotation, initial.rotation)
        return HeadMotion(
            canonical,
            jnp.einsum("nij,mjk->nik", turn, source.rotation),
            source.translation + driving.translation - initial.translation,
            source.expression + driving.expression - initial.expression,
            _fewer(driving.count, initial.count, len(driving)),
        )

    def keep(self, part: Keep, source: HeadMotion, moved: HeadMotion, *, speaking: bool = False) -> HeadMotion:
        """See `MotionSpec.keep`. The mouth is no part by itself: a face that speaks keeps the moved expression."""
        if part not in self.keeps:
            raise ValueError(f"part must be one of {', '.join(self.keeps)}, not {part!r}")
        count = len(moved)
        if part == "pose":
            pose = _repeated(source.rotation, count), jnp.broadcast_to(source.translation, moved.translation.shape)
            return HeadMotion(moved.canonical, *pose, moved.expression, moved.count)
        if speaking:
            return moved
        used = None if source.count is None else jnp.broadcast_to(source.count[:1], (count,))
        return dataclasses.replace(moved, expression=_repeated(source.expression, count), count=used)

    def head_rotation(self, motion: HeadMotion) -> Float[Array, "n 3 3"]:
        """See `MotionSpec.head_rotation`."""
        return self.seen(motion.rotation) if self.turns else super().head_rotation(motion)

    def seen(self, rotation: Float[Array, "n 3 3"]) -> Float[Array, "n 3 3"]:
        """Rotations of the model as a viewer sees them, and back: with `pitch_up` the pitch changes its sign."""
        if not self.pitch_up:
            return jnp.asarray(rotation)
        yaw, pitch, roll = matrix_to_euler(rotation)
        return euler_to_matrix(yaw, -pitch, roll)

    def _turned(
        self, source: HeadMotion, moved: HeadMotion, rest: HeadMotion, change: PoseChange, limit: Any, absolute: bool
    ) -> Turned:
        """See `MotionSpec.turn`: R ← R_u R and t ← t + t_u (section 3 of the paper); the head is scaled about its
        translation."""
        return Turned(*_turn(self, source, moved, rest, change, limit, absolute))


@partial(jax.jit, static_argnums=(0, 6))
def _turn(
    spec: HeadSpec,
    source: HeadMotion,
    moved: HeadMotion,
    rest: HeadMotion,
    change: PoseChange,
    limit: Any,
    absolute: bool,
) -> tuple[HeadMotion, Bool[Array, " n"]]:
    own, still = (spec.head_rotation(motion) for motion in (moved, source))
    rotation, limited = turned_rotation(own, still, change.rotation, limit, absolute)
    rotation = moved.rotation if change.rotation is None else spec.seen(rotation)
    if change.translation is None:
        return dataclasses.replace(moved, rotation=rotation), limited
    place = jnp.broadcast_to(rest.translation, moved.translation.shape) if absolute else moved.translation
    # A model takes the canonical keypoints from the source: the change of size is in the expression.
    scale = change.translation[2]
    canonical = jnp.einsum("nij,nkj->nki", rotation, moved.canonical)
    expression = scale * moved.expression + (scale - 1) * canonical
    place = place.at[:, :2].add(change.translation[:2])
    turned = dataclasses.replace(moved, rotation=rotation, translation=place, expression=expression)
    return turned, limited


def _repeated(one: Float[Array, "m k 3"], count: int) -> Float[Array, "n k 3"]:
    return jnp.broadcast_to(one[:1], (count, *one.shape[1:]))


def _fewer(driving: Any, initial: Any, frames: int) -> Any:
    """The count of relative motion: how far a keypoint moved that either frame leaves out is unknown."""
    if initial is None:
        return driving
    initial = jnp.broadcast_to(jnp.asarray(initial)[:1], (frames,))
    return initial if driving is None else jnp.minimum(driving, initial)

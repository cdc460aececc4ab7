"""What of a model's keypoints is sent: the face mesh in principal components, learned keypoints one by one, or both.

A space turns a frame's pose into a vector of how far it is from the pivot's, and back; and a pivot's own pose into
bytes, since the receiver would not find quite the same keypoints in the decoded picture.
"""

import dataclasses
import hashlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from avfr_jax.codec import mesh_basis as meshes
from avfr_jax.codec.motion import LARGEST, step_of
from avfr_jax.codec.range_coder import Reader, Writer
from avfr_jax.codec.symbols import Contexts, get_vector, put_vector
from avfr_jax.errors import ConfigError
from avfr_jax.landmarks import landmarks_to_pixels, normalise_landmarks
from avfr_jax.models.base import Animator
from avfr_jax.motion import Motion, MotionSpec
from avfr_jax.typing import Float, Int

MESH, KEYPOINTS, KEYPOINTS_WITH_JACOBIANS = 1, 2, 3
_PIXELS = 128.0  # of half a frame of 256: keypoints are stated in pixels, like the mesh
_JACOBIAN = 64.0  # a Jacobian's entry of 1/64 counts as much as a pixel
_FINE = 8  # steps a pixel, in which a pivot's keypoints are sent
_MOVED_STEP = 10  # of the components in which a pivot's mesh is told from another's
_MOVED_LEVEL = 48  # of keypoints that are told so
_FACE_LEVELS = tuple(range(44, 24, -1)) + (24,) * 20  # of the components of a pivot's face


class Pose(NamedTuple):
    """Where a face is, in one frame: what of it a model uses, None otherwise.

    Attributes:
      mesh: float32 `[478, 3]`, pixels of a 256 × 256 frame.
      value: float32 `[K, 2]` in [-1, 1].
      jacobian: float32 `[K, 2, 2]`.
    """

    mesh: Any = None
    value: Any = None
    jacobian: Any = None


@dataclasses.dataclass(frozen=True, eq=False)
class MeshPart:
    """The face mesh, moved within `MeshSpace`.

    Attributes:
      count: components sent.
      space: the components.
    """

    count: int
    space: meshes.MeshSpace
    kind = MESH

    @property
    def levels(self) -> Int[np.ndarray, "2 c"]:
        return self.space.levels[:, : self.count]

    def vector(self, pose: Pose, pivot: Pose) -> Float[np.ndarray, "c"]:
        return self.space.motion_of(pose.mesh[None], pivot.mesh, self.count)[0]

    def poses(self, pivot: Pose, vectors: Float[np.ndarray, "n c"]) -> dict[str, Any]:
        return {"mesh": self.space.moved(pivot.mesh, vectors)}

    def put(self, writer: Writer, pose: Pose) -> None:
        symbols = np.clip(self.space.face_symbols(pose.mesh), -LARGEST, LARGEST)
        put_vector(writer, Contexts.of(np.array(_FACE_LEVELS)), symbols[: meshes.FACES])
        contexts = Contexts.of(np.full(3, 24))
        for point in symbols[meshes.FACES :].reshape(-1, 3):
            put_vector(writer, contexts, point)

    def put_moved(self, writer: Writer, pose: Pose, base: Pose) -> None:
        moved = self.space.motion_of(pose.mesh[None], base.mesh)[0] / step_of(_MOVED_STEP)
        put_vector(writer, Contexts.of(self.space.levels[0] - _MOVED_STEP), _cut(moved))

    def get_moved(self, reader: Reader, base: Pose) -> dict[str, Any]:
        moved = get_vector(reader, Contexts.of(self.space.levels[0] - _MOVED_STEP)).astype(np.float32)
        return {"mesh": self.space.moved(base.mesh, moved[None] * np.float32(step_of(_MOVED_STEP)))[0]}

    def get(self, reader: Reader) -> dict[str, Any]:
        components = get_vector(reader, Contexts.of(np.array(_FACE_LEVELS)))
        contexts = Contexts.of(np.full(3, 24))
        points = [get_vector(reader, contexts) for _ in range(meshes.POINTS)]
        return {"mesh": self.space.face_of(np.concatenate([components, *points]))}


@dataclasses.dataclass(frozen=True)
class KeypointPart:
    """Learned keypoints, each number by itself.

    Attributes:
      count: numbers sent: 2 a keypoint, 6 with Jacobians.
      kind: `KEYPOINTS` or `KEYPOINTS_WITH_JACOBIANS`.
    """

    count: int
    kind: int

    @property
    def levels(self) -> Int[np.ndarray, "2 c"]:
        return np.stack([np.full(self.count, 36), np.full(self.count, 20)])

    def _flat(self, pose: Pose) -> Float[np.ndarray, "c"]:
        flat = np.asarray(pose.value, np.float32).reshape(-1) * _PIXELS
        if self.kind == KEYPOINTS:
            return flat
        return np.concatenate([flat, np.asarray(pose.jacobian, np.float32).reshape(-1) * _JACOBIAN])

    def _unflat(self, flat: Float[np.ndarray, "*n c"]) -> dict[str, Any]:
        lead = flat.shape[:-1]
        if self.kind == KEYPOINTS:
            return {"value": (flat / _PIXELS).reshape(*lead, -1, 2)}
        points = self.count // 3
        return {
            "value": (flat[..., :points] / _PIXELS).reshape(*lead, -1, 2),
            "jacobian": (flat[..., points:] / _JACOBIAN).reshape(*lead, -1, 2, 2),
        }

    def vector(self, pose: Pose, pivot: Pose) -> Float[np.ndarray, "c"]:
        return self._flat(pose) - self._flat(pivot)

    def poses(self, pivot: Pose, vectors: Float[np.ndarray, "n c"]) -> dict[str, Any]:
        return self._unflat((self._flat(pivot) + vectors).astype(np.float32))

    def put(self, writer: Writer, pose: Pose) -> None:
        put_vector(writer, Contexts.of(np.full(self.count, 50)), _cut(self._flat(pose) * _FINE))

    def put_moved(self, writer: Writer, pose: Pose, base: Pose) -> None:
        moved = (self._flat(pose) - self._flat(base)) * _FINE
        put_vector(writer, Contexts.of(np.full(self.count, _MOVED_LEVEL)), _cut(moved))

    def get_moved(self, reader: Reader, base: Pose) -> dict[str, Any]:
        moved = get_vector(reader, Contexts.of(np.full(self.count, _MOVED_LEVEL)))
        return self._unflat(self._flat(base) + moved.astype(np.float32) / _FINE)

    def get(self, reader: Reader) -> dict[str, Any]:
        symbols = get_vector(reader, Contexts.of(np.full(self.count, 50)))
        return self._unflat(symbols.astype(np.float32) / _FINE)


Part = MeshPart | KeypointPart


def _cut(values: Float[np.ndarray, "c"]) -> Int[np.ndarray, "c"]:
    """The nearest whole numbers that a vector takes."""
    return np.clip(np.round(values), -LARGEST, LARGEST).astype(np.int64)


@dataclasses.dataclass(frozen=True, eq=False)
class Space:
    """Everything that is sent of a pose.

    Attributes:
      parts: in the order in which their numbers stand in a vector.
    """

    parts: tuple[Part, ...]

    @property
    def identity(self) -> bytes:
        """Eight bytes naming the shipped numbers that vectors are stated in."""
        return hashlib.sha256(b"".join(p.space.identity for p in self.parts if isinstance(p, MeshPart))).digest()[:8]

    @property
    def levels(self) -> Int[np.ndarray, "2 c"]:
        """Of the entropy coder, at a step of one."""
        return np.concatenate([part.levels for part in self.parts], axis=1)

    @property
    def rank(self) -> Int[np.ndarray, "c"]:
        """Of each number among the components of its mesh, from 0; -1 for learned keypoints."""
        ranks = [np.arange(p.count) if p.kind == MESH else np.full(p.count, -1) for p in self.parts]
        return np.concatenate(ranks)

    @property
    def counts(self) -> tuple[int, ...]:
        """Numbers of each part."""
        return tuple(part.count for part in self.parts)

    def vector(self, pose: Pose, pivot: Pose) -> Float[np.ndarray, "c"]:
        """How far a pose is from the pivot's, in pixels or what counts as much."""
        return np.concatenate([part.vector(pose, pivot) for part in self.parts])

    def motion(self, spec: MotionSpec, pivot: Pose, vectors: Float[np.ndarray, "n c"]) -> Motion:
        """The motion of N frames for a model of that specification."""
        return _motion(spec, self._fields(pivot, vectors))

    def _fields(self, pivot: Pose, vectors: Float[np.ndarray, "n c"]) -> dict[str, Any]:
        fields: dict[str, Any] = {}
        at = 0
        for part in self.parts:
            fields |= part.poses(pivot, vectors[:, at : at + part.count])
            at += part.count
        return fields

    def pose_at(self, pivot: Pose, vector: Float[np.ndarray, "c"]) -> Pose:
        """The pose that is so far from the pivot's: the inverse of `vector`, but for what is not sent."""
        return Pose(**{name: value[0] for name, value in self._fields(pivot, vector[None]).items()})

    def put_pivot(self, pose: Pose, base: Pose | None = None) -> bytes:
        """A pivot's pose as bytes: by itself, or as what has changed since another pivot's, which costs a tenth."""
        writer = Writer()
        for part in self.parts:
            if base is None:
                part.put(writer, pose)
            else:
                part.put_moved(writer, pose, base)
        return writer.finish()

    def get_pivot(self, data: bytes, base: Pose | None = None) -> Pose:
        """What `put_pivot` wrote, as both ends hold it. Any bytes give some pose."""
        reader = Reader(data)
        fields: dict[str, Any] = {}
        for part in self.parts:
            fields |= part.get(reader) if base is None else part.get_moved(reader, base)
        return Pose(**fields)

    def pose(self, landmarks: Any, motion: Motion | None, spec: MotionSpec) -> Pose:
        """A frame's pose, from its landmarks `[478, 3]` in [-1, 1] and the model's motion of that one frame."""
        mesh = None
        if any(isinstance(part, MeshPart) for part in self.parts):
            mesh = landmarks_to_pixels(np.asarray(landmarks, np.float32), meshes.FRAME)
        if not needs_learned(self) or motion is None:
            return Pose(mesh)
        numbers = spec.split(np.asarray(spec.flatten(motion)))
        jacobian = numbers["jacobians"][0] if "jacobians" in numbers else None
        return Pose(mesh, numbers["keypoints"][0], jacobian)


def motion_of(spec: MotionSpec, poses: Sequence[Pose]) -> Motion:
    """The motion of N frames of which each is known by its pose."""
    told = [{k: v for k, v in pose._asdict().items() if v is not None} for pose in poses]
    return _motion(spec, {name: np.stack([fields[name] for fields in told]) for name in told[0]})


_FIELDS = {"mesh": "mesh", "keypoints": "value", "jacobians": "jacobian"}


def _motion(spec: MotionSpec, fields: dict[str, Any]) -> Motion:
    parts = []
    for component in spec.components:
        part = fields[_FIELDS[component.name]]
        if component.name == "mesh":
            part = normalise_landmarks(part, meshes.FRAME, meshes.FRAME)
        parts.append(np.asarray(part, np.float32).reshape(len(part), -1))
    motion: Motion = spec.unflatten(np.concatenate(parts, axis=1))
    return motion


def needs_learned(space: Space) -> bool:
    """Whether the sender has to run the model's keypoint detector."""
    return any(isinstance(part, KeypointPart) for part in space.parts)


def space_of(model: Animator, components: int = 32) -> Space:
    """What is sent for a model.

    Args:
      model: which renders at the receiver.
      components: of the mesh, 1 to 48, where the model has one.

    Raises:
      ConfigError: so many components do not exist.
    """
    if not 1 <= components <= meshes.MOTIONS:
        raise ConfigError(f"a face mesh moves in 1 to {meshes.MOTIONS} components, not {components}")
    sizes = {component.name: component.size for component in model.motion_spec.components}
    parts: list[Part] = []
    if "mesh" in sizes:
        parts.append(MeshPart(components, meshes.shipped()))
    if "keypoints" in sizes:
        kind = KEYPOINTS_WITH_JACOBIANS if "jacobians" in sizes else KEYPOINTS
        parts.append(KeypointPart(sizes["keypoints"] + sizes.get("jacobians", 0), kind))
    return Space(tuple(parts))


def moves(space: Space, model: Animator) -> bool:
    """Whether the motion of a space is what a model draws from."""
    wanted = space_of(model)
    return [(p.kind, p.kind == MESH or p.count) for p in space.parts] == [
        (p.kind, p.kind == MESH or p.count) for p in wanted.parts
    ]


def space_from(kinds: Sequence[int], counts: Sequence[int]) -> Space:
    """The space that a header states. Raises ConfigError for one that does not exist."""
    parts: list[Part] = []
    if len({kind == MESH for kind in kinds}) < len(kinds):
        raise ConfigError("there is no motion with two parts of one kind")
    for kind, count in zip(kinds, counts, strict=True):
        if kind == MESH and 1 <= count <= meshes.MOTIONS:
            parts.append(MeshPart(count, meshes.shipped()))
        elif kind in (KEYPOINTS, KEYPOINTS_WITH_JACOBIANS) and count and count % (2 if kind == KEYPOINTS else 6) == 0:
            parts.append(KeypointPart(count, kind))
        else:
            raise ConfigError(f"there is no motion of kind {kind} with {count} numbers")
    return Space(tuple(parts))

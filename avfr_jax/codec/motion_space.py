"""Motion of a frame as vectors for the motion coder, and of a pivot as bytes, as the model's `MotionSpec` lays it out.

The component "mesh" is coded in principal components, every other one number by number with its scale. A *pose* is one
frame's motion as `{component name: float32 [*shape]}`, in the units of the specification. A pivot's pose is
transmitted, since the receiver would not detect quite the same keypoints in the decoded image.
"""

import dataclasses
import functools
import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from avfr_jax.codec import mesh_basis as meshes
from avfr_jax.codec.entropy import RANGE_CODER, EntropyCoder, EntropyReader, EntropyWriter
from avfr_jax.codec.header import PartHeader
from avfr_jax.codec.motion import LARGEST, MotionFormat, quantise, step_of
from avfr_jax.errors import ConfigError
from avfr_jax.landmarks import landmarks_to_pixels, normalise_landmarks
from avfr_jax.motion import Component, FaceMeshSpec, KeypointSpec, Motion, MotionSpec
from avfr_jax.typing import Float

MESH, KEYPOINTS, KEYPOINTS_WITH_JACOBIANS, LINEAR, ANGLES, COUNTED = 1, 2, 3, 4, 5, 6
"""Kinds of parts: the mesh; version 1's two layouts of keypoints; any named component, linear, of angles, or of rows of
which each frame states how many it has."""
Pose = dict[str, Any]
_FINE = 8  # steps of a scaled unit, for the numbers of a pivot
_PREDICTED_STEP = 10  # of the mesh's components where a pivot is predicted from another
_PREDICTED_LEVEL = 48  # of other numbers there
_NUMBER_LEVEL = 50  # of the numbers of a pivot
_NUMBER_LEVELS = (36, 20)  # of the numbers of a frame, as `MotionFormat.levels`
_LEFT_OUT_LEVELS = [[36], [20]]  # of the number of rows that a frame leaves out
_ROW = 3  # numbers of a row
_COUNT = "count"  # the component that states how many rows there are
_FACE_LEVELS = np.array([*range(44, 24, -1), *[24] * 20])  # of the components of a pivot's mesh
_POINT_LEVELS = np.full(3, 24)


def _pixels(landmarks: Any) -> Any:
    return landmarks_to_pixels(np.asarray(landmarks, np.float32), meshes.FRAME)


class MeshPart:
    """The face mesh in `count` principal components."""

    kind, components = MESH, FaceMeshSpec().components

    def __init__(self, count: int) -> None:
        self.count, self.space = count, meshes.shipped()
        self.levels, self.rank = self.space.levels[:, :count], np.arange(count)
        self.period = np.full(count, np.inf, np.float32)

    def vector(self, pose: Pose, pivot: Pose) -> Any:
        return self.space.motion_of(_pixels(pose["mesh"])[None], _pixels(pivot["mesh"]), self.count)[0]

    def poses(self, pivot: Pose, vectors: Float[np.ndarray, "n c"]) -> dict[str, Any]:
        return self._normalised(self.space.moved(_pixels(pivot["mesh"]), vectors))

    def put(self, writer: EntropyWriter, pose: Pose, base: Pose | None, coder: EntropyCoder) -> None:
        mesh = _pixels(pose["mesh"])
        if base is not None:
            moved = self.space.motion_of(mesh[None], _pixels(base["mesh"]))[0]
            writer.put_vector(self._predicted_contexts(coder), quantise(moved, step_of(_PREDICTED_STEP)))
            return
        symbols = np.clip(self.space.face_symbols(mesh), -LARGEST, LARGEST)
        writer.put_vector(coder.contexts(_FACE_LEVELS), symbols[: meshes.FACES])
        contexts = coder.contexts(_POINT_LEVELS)
        for point in symbols[meshes.FACES :].reshape(-1, 3):
            writer.put_vector(contexts, point)

    def get(self, reader: EntropyReader, base: Pose | None, coder: EntropyCoder) -> dict[str, Any]:
        if base is not None:
            moved = reader.get_vector(self._predicted_contexts(coder)).astype(np.float32)
            scaled = moved[None] * np.float32(step_of(_PREDICTED_STEP))
            return self._normalised(self.space.moved(_pixels(base["mesh"]), scaled)[0])
        components = reader.get_vector(coder.contexts(_FACE_LEVELS))
        contexts = coder.contexts(_POINT_LEVELS)
        points = [reader.get_vector(contexts) for _ in range(meshes.POINTS)]
        return self._normalised(self.space.face_of(np.concatenate([components, *points])))

    def _predicted_contexts(self, coder: EntropyCoder) -> Any:
        return coder.contexts(self.space.levels[0] - _PREDICTED_STEP)

    @staticmethod
    def _normalised(mesh: Any) -> dict[str, Any]:
        return {"mesh": normalise_landmarks(mesh, meshes.FRAME, meshes.FRAME).astype(np.float32)}


class NumberPart:
    """Components coded number by number; of kinds `LINEAR` and `ANGLES` one alone."""

    def __init__(self, kind: int, components: tuple[Component, ...]) -> None:
        def spread(values: Sequence[float]) -> Float[np.ndarray, "c"]:
            return np.repeat(np.asarray(values, np.float32), [c.size for c in components])

        self.kind, self.components, self.count = kind, components, sum(c.size for c in components)
        self.levels = np.stack([np.full(self.count, level) for level in _NUMBER_LEVELS])
        self.rank = np.full(self.count, -1)
        self.period = spread([360 * c.scale if c.interpolation == "angles" else np.inf for c in components])
        self._scale = spread([c.scale for c in components])

    def _flat(self, pose: Pose) -> Any:
        return np.concatenate([np.asarray(pose[c.name], np.float32).reshape(-1) for c in self.components]) * self._scale

    def _unflat(self, flat: Float[np.ndarray, "*n c"]) -> dict[str, Any]:
        ends = np.cumsum([c.size for c in self.components])[:-1]
        parts = np.split((flat / self._scale).astype(np.float32), ends, axis=-1)
        return {c.name: p.reshape(*p.shape[:-1], *c.shape) for c, p in zip(self.components, parts, strict=True)}

    def vector(self, pose: Pose, pivot: Pose) -> Any:
        return wrapped(self._flat(pose) - self._flat(pivot), self.period)

    def poses(self, pivot: Pose, vectors: Float[np.ndarray, "n c"]) -> dict[str, Any]:
        return self._unflat(self._flat(pivot) + vectors)

    def put(self, writer: EntropyWriter, pose: Pose, base: Pose | None, coder: EntropyCoder) -> None:
        flat = self._flat(pose) if base is None else self.vector(pose, base)
        writer.put_vector(self._pivot_contexts(base, coder), quantise(flat * _FINE))

    def get(self, reader: EntropyReader, base: Pose | None, coder: EntropyCoder) -> dict[str, Any]:
        flat = reader.get_vector(self._pivot_contexts(base, coder)).astype(np.float32) / _FINE
        return self._unflat(flat if base is None else self._flat(base) + flat)

    def _pivot_contexts(self, base: Pose | None, coder: EntropyCoder) -> Any:
        return coder.contexts(np.full(self.count, _NUMBER_LEVEL if base is None else _PREDICTED_LEVEL))


class CountedPart:
    """A linear component of rows of three numbers, and before them how many of its rows, the last ones, a frame leaves
    out. Pivots have all."""

    kind = COUNTED

    def __init__(self, component: Component) -> None:
        self.rows = component.shape[0]
        self.components = (component, Component(_COUNT, (1,), "", 1.0))
        self._numbers = NumberPart(LINEAR, (component,))
        self.count = 1 + self._numbers.count
        self.levels = np.concatenate([_LEFT_OUT_LEVELS, self._numbers.levels], 1)
        self.rank = np.full(self.count, -1)
        self.row = np.array([-1, *np.repeat(np.arange(self.rows), _ROW)])
        self.period = np.full(self.count, np.inf, np.float32)

    def vector(self, pose: Pose, pivot: Pose) -> Any:
        left_out = self.rows - np.asarray(pose[_COUNT], np.float32).reshape(1)
        return np.concatenate([left_out, self._numbers.vector(pose, pivot)])

    def poses(self, pivot: Pose, vectors: Float[np.ndarray, "n c"]) -> dict[str, Any]:
        return {_COUNT: self.rows - vectors[:, :1], **self._numbers.poses(pivot, vectors[:, 1:])}

    def put(self, writer: EntropyWriter, pose: Pose, base: Pose | None, coder: EntropyCoder) -> None:
        self._numbers.put(writer, pose, base, coder)

    def get(self, reader: EntropyReader, base: Pose | None, coder: EntropyCoder) -> dict[str, Any]:
        return {_COUNT: np.array([self.rows], np.float32), **self._numbers.get(reader, base, coder)}


Part = MeshPart | NumberPart | CountedPart


def wrapped(change: Any, period: Float[np.ndarray, "c"]) -> Any:
    """Reduce changes of angles to the shortest arc; `period` is infinite for other numbers."""
    cyclic = np.isfinite(period)
    if cyclic.any():
        full, change = period[cyclic], np.array(change, np.float32)
        change[..., cyclic] = (change[..., cyclic] + full / 2) % full - full / 2
    return change


@dataclasses.dataclass(frozen=True, eq=False)
class MotionSpace:
    """The transmitted motion of a model.

    Attributes:
      parts: in the order in which their numbers stand in a vector.
      coder: of the poses of pivots.
    """

    parts: tuple[Part, ...]
    coder: EntropyCoder = RANGE_CODER

    @property
    def identity(self) -> bytes:
        """Eight bytes of a hash of the principal components that vectors are stated in."""
        return hashlib.sha256(b"".join(p.space.identity for p in self.parts if isinstance(p, MeshPart))).digest()[:8]

    @property
    def counts(self) -> tuple[int, ...]:
        """Numbers of each part."""
        return tuple(part.count for part in self.parts)

    @functools.cached_property
    def period(self) -> Float[np.ndarray, "c"]:
        """Of each number, for `wrapped`."""
        return np.concatenate([part.period for part in self.parts])

    def headers(self, step: int, number_step: int) -> tuple[PartHeader, ...]:
        """The parts as the header states them, with the quantiser steps of the mesh and of other numbers."""
        return tuple(
            PartHeader(
                part.kind, part.count, step if part.kind == MESH else number_step,
                *((part.components[0].name, part.components[0].scale) if part.kind >= LINEAR else ()),
            ) for part in self.parts
        )  # fmt: skip

    def format(self, headers: Sequence[PartHeader], slope: int, adaptive: bool) -> MotionFormat:
        """The format of the motion with the header's steps; see `MotionFormat`."""
        levels = np.concatenate([part.levels for part in self.parts], axis=1)
        rank = np.concatenate([part.rank for part in self.parts])
        steps = np.repeat([header.step for header in headers], self.counts)
        row = np.concatenate([getattr(part, "row", np.full(part.count, -1)) for part in self.parts])
        if row.max() < 0:
            return MotionFormat(levels, steps, slope, rank, adaptive, self.coder)
        left_out = int(np.flatnonzero(row >= 0)[0]) - 1
        steps[left_out] = 0  # it is a whole number
        return MotionFormat(levels, steps, slope, rank, adaptive, self.coder, row, left_out)

    def vector(self, pose: Pose, pivot: Pose) -> Float[np.ndarray, "c"]:
        """The motion from the pivot's pose to a pose, in pixels or equivalents."""
        return np.concatenate([part.vector(pose, pivot) for part in self.parts])

    def poses(self, pivot: Pose, vectors: Float[np.ndarray, "n c"]) -> dict[str, Any]:
        """N poses, stacked, each by its motion from the pivot's: the inverse of `vector` up to what is not coded."""
        parts = np.split(vectors, np.cumsum(self.counts)[:-1], axis=1)
        return {n: v for p, own in zip(self.parts, parts, strict=True) for n, v in p.poses(pivot, own).items()}

    def pose_at(self, pivot: Pose, vector: Float[np.ndarray, "c"]) -> Pose:
        """One pose by its motion from the pivot's."""
        return {name: value[0] for name, value in self.poses(pivot, vector[None]).items()}

    def put_pivot(self, pose: Pose, base: Pose | None = None) -> bytes:
        """Encode a pivot's pose: by itself, or predicted from another pivot's at a tenth of the size."""
        writer = self.coder.writer()
        for part in self.parts:
            part.put(writer, pose, base, self.coder)
        return writer.finish()

    def get_pivot(self, data: bytes, base: Pose | None = None) -> Pose:
        """Decode a pivot's pose, as both ends hold it. Any bytes give some pose."""
        reader = self.coder.reader(data)
        return {n: value for part in self.parts for n, value in part.get(reader, base, self.coder).items()}

    def drives(self, spec: MotionSpec) -> bool:
        """Whether it holds the components of a model's motion, no more and no fewer."""
        ours = sorted((c.name, c.size) for part in self.parts for c in part.components)
        return ours == sorted((c.name, c.size) for c in spec.components)


def pose_of(spec: MotionSpec, motion: Motion) -> Pose:
    """The pose of one frame's motion."""
    return {name: part[0] for name, part in spec.split(np.asarray(spec.flatten(motion))).items()}


def numbers_of(spec: MotionSpec, poses: dict[str, Any]) -> Float[np.ndarray, "n d"]:
    """N stacked poses in the layout of `MotionSpec.flatten`."""
    parts = [np.asarray(poses[c.name], np.float32) for c in spec.components]
    return np.concatenate([part.reshape(len(part), -1) for part in parts], axis=1)


def motion_of(spec: MotionSpec, poses: dict[str, Any], source: Motion | None = None) -> Motion:
    """The motion of N stacked poses; `source` as in `MotionSpec.unflatten`."""
    return spec.unflatten(numbers_of(spec, poses), source)


def stack(pose: Pose) -> dict[str, Any]:
    """One pose as stacked poses."""
    return {name: value[None] for name, value in pose.items()}


def space_of(spec: MotionSpec, components: int = 32) -> MotionSpace:
    """The space of a model's motion.

    Args:
      spec: of the model.
      components: principal components of the mesh, 1 to 48, where there is one.

    Raises:
      ConfigError: so many components do not exist.
    """
    if not 1 <= components <= meshes.MOTIONS:
        raise ConfigError(f"a face mesh moves in 1 to {meshes.MOTIONS} components, not {components}")
    parts: list[Part] = []
    counts = {component.counted_by for component in spec.components}
    rest = {component.name: component for component in spec.components if component.name not in counts}
    while rest:
        name, component = next(iter(rest.items()))
        plane = _keypoint_components(component.shape[0], "jacobians" in rest) if name == "keypoints" else ()
        if name == "mesh":
            parts.append(MeshPart(components))
            del rest[name]
        elif plane and all(rest.get(c.name) == c for c in plane):
            parts.append(NumberPart(KEYPOINTS if len(plane) == 1 else KEYPOINTS_WITH_JACOBIANS, plane))
            for own in plane:
                del rest[own.name]
        elif component.counted_by:
            parts.append(CountedPart(component))
            del rest[name]
        else:
            parts.append(NumberPart(ANGLES if component.interpolation == "angles" else LINEAR, (component,)))
            del rest[name]
    return MotionSpace(tuple(parts))


def _keypoint_components(count: int, jacobians: bool) -> tuple[Component, ...]:
    return KeypointSpec(count, jacobians).components


def space_from(headers: Sequence[PartHeader], coder: EntropyCoder = RANGE_CODER) -> MotionSpace:
    """The space that a header states. Raises ConfigError for one that does not exist."""
    parts = tuple(_part_from(header) for header in headers)
    names = [component.name for part in parts for component in part.components]
    if len(set(names)) < len(names):
        raise ConfigError("there is no motion with two parts of one kind")
    return MotionSpace(parts, coder)


def _part_from(header: PartHeader) -> Part:
    kind, count = header.kind, header.size
    if kind == MESH and 1 <= count <= meshes.MOTIONS:
        return MeshPart(count)
    if kind in (KEYPOINTS, KEYPOINTS_WITH_JACOBIANS) and count and count % (2 if kind == KEYPOINTS else 6) == 0:
        jacobians = kind == KEYPOINTS_WITH_JACOBIANS
        return NumberPart(kind, _keypoint_components(count // (6 if jacobians else 2), jacobians))
    if kind in (LINEAR, ANGLES) and count and header.name and header.name != "mesh":
        how: Any = "angles" if kind == ANGLES else "linear"
        component = Component(header.name, (count,), "", header.scale, interpolation=how)
        return NumberPart(kind, (component,))
    if kind == COUNTED and count > 1 and (count - 1) % _ROW == 0 and header.name not in ("", "mesh", _COUNT):
        shape = ((count - 1) // _ROW, _ROW)
        return CountedPart(Component(header.name, shape, "", header.scale, counted_by=_COUNT))
    raise ConfigError(f"there is no motion of kind {kind} with {count} numbers")

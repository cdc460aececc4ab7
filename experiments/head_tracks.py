"""Clips as motion of heads: that of a model, and a stand-in for it that is derived from the face mesh."""

import dataclasses
from collections.abc import Sequence
from functools import partial
from typing import TypeVar

import jax
import numpy as np

from avfr_jax.errors import ConfigError
from avfr_jax.faces.pose import head_pose
from avfr_jax.landmarks import RIGID, landmarks_to_pixels
from avfr_jax.models.base import Animator, Priors, driving_keypoints
from avfr_jax.motion import HeadMotion, HeadSpec
from avfr_jax.typing import Float, Int
from pipelines.record import Clip
from pipelines.sources import ClipDataset

_FRAME = 256  # side of the frames in whose pixels the head pose is solved
_EXAMPLES = 2000  # frames among which the mesh's points are chosen


@dataclasses.dataclass(frozen=True)
class Head:
    """A tracked clip of one person before the keypoints of the stand-in are chosen.

    Attributes:
      identity: the person.
      pose: `[T, 6]`, angles in degrees, then translations in the units of [-1, 1].
      rest: `[T, 478, 3]`, what they leave of the mesh's motion since the first frame.
    """

    identity: str
    pose: Float[np.ndarray, "t 6"]
    rest: Float[np.ndarray, "t 478 3"]

    def numbers(self, points: Sequence[int]) -> Float[np.ndarray, "t d"]:
        """Laid out as `HeadSpec.flatten` with these points of the mesh as keypoints."""
        return np.concatenate([self.pose, self.rest[:, list(points)].reshape(len(self.pose), -1)], 1)


def head_of(identity: str, place: Float[np.ndarray, "t 478 3"]) -> Head:
    """Divide a mesh's motion, in the units of [-1, 1], into pose and expression.

    The canonical mesh is the first frame's, turned to the front about the middle of its rigid points.
    """
    poses = [head_pose(pixels, _FRAME, _FRAME) for pixels in landmarks_to_pixels(place, _FRAME)]
    turns = np.stack([pose.rotation for pose in poses]).astype(np.float64)
    middle = place[:, list(RIGID)].mean(1)
    front = (place[0] - middle[0]) @ turns[0]  # the transpose undoes the turn
    rest = place - middle[:, None] - np.einsum("tij,kj->tki", turns, front)
    angles = [(-pose.yaw, -pose.pitch, pose.roll) for pose in poses]  # the signs of `ops.rotations`
    return Head(identity, np.concatenate([np.array(angles), middle], 1), rest)


def choose_points(heads: Sequence[Head], count: int) -> list[int]:
    """Points of the mesh by the share of the expression that each explains after those before it."""
    frames = np.concatenate([head.rest for head in heads])
    left = frames[:: max(1, len(frames) // _EXAMPLES)].reshape(-1, frames.shape[1] * 3)
    left = left - left.mean(0)
    chosen: list[int] = []
    for _ in range(count):
        energy = (left**2).sum(0).reshape(-1, 3).sum(1)
        energy[chosen] = -1
        point = int(energy.argmax())
        chosen.append(point)
        basis = np.linalg.qr(left[:, 3 * point : 3 * point + 3])[0]
        left = left - basis @ (basis.T @ left)
    return chosen


@dataclasses.dataclass(frozen=True)
class Track:
    """The numbers `[T, D]` of a clip of one person, as `HeadSpec.flatten` lays them out without a count."""

    identity: str
    numbers: Float[np.ndarray, "t d"]


Clips = TypeVar("Clips", Head, Track)


def mesh_heads(dataset: ClipDataset) -> list[Head]:
    """The clips with a face in every frame, of two frames or more.

    Raises:
      ConfigError: there is none.
    """
    heads = []
    for clip in dataset.clips:
        if not clip.missing_faces and clip.frames > 1:
            read = [dataset.read_frame(clip, i, ("landmarks",))["landmarks"] for i in range(clip.frames)]
            heads.append(head_of(clip.identity, np.stack(read).astype(np.float64)))
    if not heads:
        raise ConfigError(f"no clip of {dataset.path} shows a face from its first frame to its last")
    return heads


def read_heads(
    model: Animator, dataset: ClipDataset, clip: Clip, frames: Int[np.ndarray, "n"], *, source: bool = False
) -> tuple[Float[np.ndarray, "n s s 3"], HeadMotion]:
    """Some frames of a clip, `[N, S, S, 3]` in [0, 1], and their heads; `source`: with canonical keypoints."""
    pixels, heads, batch = [], [], model.batch_size
    for start in range(0, len(frames), batch):
        at = frames[np.minimum(np.arange(start, start + batch), len(frames) - 1)]  # one shape compiles once
        read = [dataset.read_frame(clip, int(i), ("image", "landmarks")) for i in at]
        priors = Priors(np.stack([one["landmarks"] for one in read])) if model.capabilities.landmarks else None
        pixels.append(np.stack([one["image"] for one in read])[..., :3].astype(np.float32) / 255)
        find = model.keypoints if source else partial(driving_keypoints, model)
        heads.append(find(pixels[-1], priors))
    joined: HeadMotion = jax.tree.map(lambda *x: np.concatenate(x)[: len(frames)], *heads)
    return np.concatenate(pixels)[: len(frames)], joined


def model_tracks(model: Animator, dataset: ClipDataset, frames: int) -> list[Track]:
    """The motion of the first frames of each clip, of a model whose motion is a head's."""
    plain, tracks = HeadSpec(model.motion_spec.num_keypoints), []  # type: ignore[attr-defined]
    for clip in dataset.clips:
        _, heads = read_heads(model, dataset, clip, np.arange(min(frames, clip.frames)))
        tracks.append(Track(clip.identity, np.asarray(plain.flatten(heads))))
    return tracks


def split(tested: Sequence[Clips], fitted: Sequence[Clips]) -> list[tuple[Sequence[Clips], Sequence[Clips]]]:
    """Of each fold the clips that the tables are counted on, and those that are coded: `fitted` and `tested`; without
    `fitted`, one half of the people of `tested` and the other, both ways.

    Raises:
      ConfigError: there is one person alone.
    """
    if fitted:
        return [(fitted, tested)]
    people = sorted({clip.identity for clip in tested})
    if len(people) < 2:
        raise ConfigError("the tables are counted on other people: give clips of two or more, or --fit")
    halves = [[clip for clip in tested if people.index(clip.identity) % 2 == half] for half in (0, 1)]
    return [(halves[0], halves[1]), (halves[1], halves[0])]

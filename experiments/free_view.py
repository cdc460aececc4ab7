"""Shared parts of the experiments that turn heads: portraits, models turned to a pose, and the faces of the results."""

import argparse
import dataclasses
import functools
import hashlib
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from avfr_jax.errors import FaceError, InputError
from avfr_jax.faces.analyser import FaceAnalyser, FaceFacts
from avfr_jax.faces.pose import angles_from_rotation
from avfr_jax.metrics.identity import centred_cosine, cosine_distance, identity_distance
from avfr_jax.motion.turner import check_turns
from avfr_jax.motion.view import PoseChange, ViewMode, rotation_of
from avfr_jax.typing import Bool, UInt8
from experiments.evaluate import code_digest
from experiments.harness import digest, find_clips, progress

NO_LIMIT = 90.0
_SIZE = 512  # of a clip's frames
_SAMPLES = 24  # frames of a clip among which a source is chosen

Angles = tuple[float, float, float]
"""Yaw, pitch and roll in degrees, with the signs of `HeadPose`."""


@dataclasses.dataclass(frozen=True, eq=False)
class Subject:
    """A person to turn: a name and a picture `[H, W, 3]`, uint8."""

    name: str
    picture: UInt8[np.ndarray, "h w 3"]


# --- portraits ----------------------------------------------------------------------------------------------------


def find_subjects(
    given: Sequence[pathlib.Path], choose: Callable[[list[np.ndarray]], int | None], seconds: float = 8.0
) -> list[Subject]:
    """Open pictures, folders of pictures, square videos, folders of them, and prepared datasets.

    Args:
      given: paths.
      choose: number of the frame of a clip that is the source; None leaves the clip out.
      seconds: of each clip among whose frames is chosen.

    Raises:
      InputError: there is nothing, or something cannot be read.
    """
    from avfr_jax.media.image import is_image, read_image

    subjects, rest = [], []
    for path in given:
        inside = sorted(p for p in path.iterdir() if p.is_file()) if path.is_dir() else [path]
        pictures = [p for p in inside if p.is_file() and is_image(p)]
        subjects += [Subject(p.stem, read_image(p)) for p in pictures]
        rest += [] if pictures else [path]
    clips = find_clips(rest)
    for count, clip in enumerate(clips):
        frames = clip.read(seconds, _SIZE)
        frames = frames[:: max(1, len(frames) // _SAMPLES)]
        at = choose(list(frames))
        subjects += [] if at is None else [Subject(clip.name, frames[at])]
        progress(f"{count + 1}/{len(clips)} {clip.name}")
    if not subjects:
        raise InputError("There is no picture of a person to turn in what was given.")
    return subjects


def first_face(analyser: FaceAnalyser) -> Callable[[list[np.ndarray]], int | None]:
    """Choose the first frame with a face."""
    return lambda frames: next((i for i, face in enumerate(analyser.analyse(frames)) if face is not None), None)


# --- models -------------------------------------------------------------------------------------------------------


class TurnableModel:
    """A model that can turn heads, by name or folder.

    Attributes:
      name: as given.
      model: the loaded `Animator`.

    Raises:
      AvfrError: there is no such model, or its motion knows no head pose.
    """

    def __init__(self, name: str) -> None:
        from avfr_jax.model_store import load_model
        from avfr_jax.tracking import Tracking

        self.name, self.model = name, load_model(name)
        check_turns(self.model.motion_spec, name)
        self._tracking = Tracking(self.model.image_size, self.model.capabilities)

    @property
    def facts(self) -> list[Any]:
        """What its results depend on."""
        return [self.model.fingerprint.hex()]

    def portrait(self, subject: Subject) -> Any:
        """The subject cropped to the model's size and encoded. FaceError without a face."""
        from avfr_jax.reenact.motion import encode_source
        from avfr_jax.tracking import track_portrait

        with self._tracking.open_backend() as backend:
            portrait = track_portrait(subject.picture, self._tracking, backend, "largest", subject.name)
        return encode_source(self.model, portrait)

    def turn(
        self, portrait: Any, angles: Sequence[Angles], mode: ViewMode = "relative", limit: float | None = None
    ) -> tuple[UInt8[np.ndarray, "m s s 3"], Bool[np.ndarray, " m"]]:
        """Frames of the portrait at rest, turned to each of some poses.

        Args:
          portrait: from `portrait`.
          angles: of each frame.
          mode: see `motion.View`.
          limit: degrees beyond which a head is not turned from the picture's pose; None takes the model's own.

        Returns:
          Frames, and which of them were turned less than asked.
        """
        model, spec, source = self.model, self.model.motion_spec, portrait.keypoints
        absolute = mode == "absolute"
        frames, limited = [], []
        for start in range(0, len(angles), model.batch_size):
            part = np.array(angles[start : start + model.batch_size], np.float32)
            padded = np.concatenate([part, np.repeat(part[-1:], model.batch_size - len(part), 0)])
            still = source[np.zeros(len(padded), np.int64)]
            moved = spec.retarget(source, still, source)
            turned = spec.turn(source, moved, PoseChange(rotation_of(padded)), absolute=absolute, limit=limit)
            output = np.asarray(model.animate(portrait.encoded, source, turned.motion))[: len(part)]
            frames += list(np.clip(output * 255 + 0.5, 0, 255).astype(np.uint8))
            limited += list(np.asarray(turned.limited)[: len(part)])
        return np.stack(frames), np.array(limited)


def add_models(parser: argparse.ArgumentParser) -> None:
    """Add the arguments `subjects`, `--models` and `--no-limit`."""
    parser.add_argument(
        "subjects", nargs="+", type=pathlib.Path, help="pictures or square videos of people, folders of them, datasets"
    )
    parser.add_argument("--models", nargs="+", default=["landmark-warp"], help="names or folders of models")
    parser.add_argument(
        "--no-limit",
        action="store_true",
        help="turn as far as asked; default: as far as the model's own limit, like avfr reenact --rotate",
    )
    parser.add_argument("--sheet", type=pathlib.Path, metavar="FILE.png", help="write the results side by side")


# --- measurements -------------------------------------------------------------------------------------------------


def relative_angles(face: FaceFacts, rest: FaceFacts) -> Angles:
    """Angles of the rotation that leads from one head pose to another, in the axes of the camera."""
    return angles_from_rotation((face.pose.rotation @ rest.pose.rotation.T).astype(np.float64))


def likeness(face: FaceFacts, original: FaceFacts) -> dict[str, float]:
    """Distance, cosine distance and centred cosine of the descriptors of two pictures (`metrics.identity`)."""
    a, b = (jnp.asarray(one.descriptor)[None] for one in (face, original))
    return {
        "identity": float(identity_distance(a, b)[0]),
        "cosine_distance": float(cosine_distance(a, b)[0]),
        "centred_cosine": float(centred_cosine(a, b)[0]),
    }


def analysed(analyser: FaceAnalyser, picture: np.ndarray, name: str) -> FaceFacts:
    """The face of one picture. FaceError where none is found."""
    (face,) = analyser.analyse([picture])
    if face is None:
        raise FaceError(f"No face was found in the picture of {name}; give one in which a face is in view.")
    return face


@functools.cache
def _code() -> str:
    """Hash of the experiments' own code."""
    state = hashlib.sha256()
    for path in sorted(pathlib.Path(__file__).parent.glob("*.py")):
        state.update(path.read_bytes())
    return state.hexdigest()


def facts_of(subject: Subject, analyser: FaceAnalyser, *others: Any) -> list[Any]:
    """What a measurement of a subject depends on."""
    return [code_digest(), _code(), digest(subject.picture), analyser.description, *others]


def mean_of(values: Sequence[float]) -> float:
    """The mean; NaN of nothing."""
    return float(np.mean(values)) if len(values) else float("nan")


def number(value: float, digits: int = 1) -> str:
    """A number for a table, a dash for NaN."""
    return "-" if np.isnan(value) else f"{value:.{digits}f}"


def write_sheet(path: pathlib.Path, strips: Sequence[UInt8[np.ndarray, "s w 3"]]) -> None:
    """Write strips one below the other, at half size: all as tall as the tallest, narrower ones filled with black."""
    import cv2

    from avfr_jax.media.image import write_image

    height = max((strip.shape[0] for strip in strips), default=0)
    sizes = [(round(strip.shape[1] * height / strip.shape[0]), height) for strip in strips]
    strips = [cv2.resize(strip, size) for strip, size in zip(strips, sizes, strict=True)]
    width = max((strip.shape[1] for strip in strips), default=0)
    filled = [np.pad(strip, ((0, 0), (0, width - strip.shape[1]), (0, 0))) for strip in strips]
    write_image(path, np.concatenate(filled)[::2, ::2], overwrite=True)

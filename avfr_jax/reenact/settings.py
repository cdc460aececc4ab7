"""Settings of a reenactment."""

import dataclasses
import os
from typing import Any, Literal, get_args

from avfr_jax.errors import ConfigError
from avfr_jax.model_store import DEFAULT_MODEL, load_model
from avfr_jax.models.base import Animator
from avfr_jax.motion import MotionMode
from avfr_jax.reenact.audio import Mouth
from avfr_jax.reenact.motion import BestFrame
from avfr_jax.tracking import CropMode, FrameRate, check_frame_rate

MissingFace = Literal["hold", "skip", "fail"]


@dataclasses.dataclass(frozen=True, init=False, eq=False)
class Settings:
    """Immutable settings, see `Reenactor`."""

    model: Animator
    motion: MotionMode
    adapt_scale: bool
    best_frame: BestFrame
    crop: CropMode
    missing_face: MissingFace
    source_face: Any
    driving_face: Any
    smooth: bool
    mouth: Mouth
    paste_back: bool
    batch_size: int
    face_backend: Literal["auto", "solutions", "tasks"]
    fps: FrameRate

    def __init__(
        self,
        model: Animator | str | os.PathLike[str] = DEFAULT_MODEL,
        *,
        motion: MotionMode = "relative",
        adapt_scale: bool = True,
        best_frame: BestFrame = "auto",
        crop: CropMode = "auto",
        missing_face: MissingFace = "hold",
        source_face: Any = None,
        driving_face: Any = None,
        smooth: bool = False,
        mouth: Mouth = "auto",
        paste_back: bool = False,
        batch_size: int | None = None,
        face_backend: Literal["auto", "solutions", "tasks"] = "auto",
        fps: FrameRate = 25,
    ) -> None:
        settings = {name: value for name, value in locals().items() if name != "self"}
        for name, known in (
            ("motion", get_args(MotionMode)),
            ("crop", get_args(CropMode)),
            ("missing_face", get_args(MissingFace)),
            ("mouth", get_args(Mouth)),
        ):
            if settings[name] not in known:
                raise ConfigError(f"{name} must be one of {', '.join(known)}, not {settings[name]!r}.")
        if paste_back and crop == "none":
            raise ConfigError("Pasting back needs a crop: a face crop is the whole picture already.")
        if not (best_frame in ("auto", "first") or (isinstance(best_frame, int) and best_frame >= 0)):
            raise ConfigError(f"best_frame must be auto, first, or a number from 0, not {best_frame!r}.")
        check_frame_rate(fps)
        animator = load_model(model) if isinstance(model, str | os.PathLike) else model
        if mouth == "sound" and not animator.capabilities.dubbing:
            raise ConfigError(f"{animator.name} cannot be dubbed: leave mouth out.")
        settings |= {"model": animator, "batch_size": batch_size or animator.batch_size}
        for name, value in settings.items():
            object.__setattr__(self, name, value)

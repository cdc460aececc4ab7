"""Settings of a reenactment."""

import dataclasses
import os
from typing import Any, Literal, get_args

from avfr_jax.arguments import whole_number
from avfr_jax.errors import ConfigError
from avfr_jax.model_store import DEFAULT_MODEL, load_model
from avfr_jax.motion import Keep, MotionMode, View
from avfr_jax.motion.turner import check_turns
from avfr_jax.reenact.audio import Mouth
from avfr_jax.tracking import CropMode, FrameRate, check_frame_rate

BestFrame = int | Literal["auto", "first"]
MissingFace = Literal["hold", "skip", "fail"]


@dataclasses.dataclass(frozen=True, eq=False)
class Settings:
    """Immutable settings, see `Reenactor`. A model's name or folder is replaced by the loaded `Animator`."""

    model: Any = DEFAULT_MODEL
    _: dataclasses.KW_ONLY
    motion: MotionMode = "relative"
    adapt_scale: bool = True
    keep: Keep | None = None
    view: View | None = None
    best_frame: BestFrame = "auto"
    crop: CropMode = "auto"
    missing_face: MissingFace = "hold"
    source_face: Any = None
    driving_face: Any = None
    smooth: bool = False
    mouth: Mouth = "auto"
    paste_back: bool = False
    batch_size: int | None = None
    face_backend: Literal["auto", "solutions", "tasks"] = "auto"
    fps: FrameRate = 25

    def __post_init__(self) -> None:
        choices = (("motion", MotionMode), ("crop", CropMode), ("missing_face", MissingFace), ("mouth", Mouth))
        for name, kind in choices:
            if getattr(self, name) not in get_args(kind):
                raise ConfigError(f"{name} must be one of {', '.join(get_args(kind))}, not {getattr(self, name)!r}.")
        if self.paste_back and self.crop == "none":
            raise ConfigError("Pasting back needs a crop: a face crop is the whole picture already.")
        if not (isinstance(self.best_frame, str) and self.best_frame in ("auto", "first")):
            object.__setattr__(
                self, "best_frame", whole_number(self.best_frame, "best_frame, if not auto or first,", 0)
            )
        check_frame_rate(self.fps)
        if isinstance(self.model, str | os.PathLike):
            object.__setattr__(self, "model", load_model(self.model))
        if self.keep is not None and self.keep not in get_args(Keep):
            raise ConfigError(f"keep must be one of {', '.join(get_args(Keep))} or None, not {self.keep!r}.")
        if self.keep is not None and self.keep not in self.model.motion_spec.keeps:
            raise ConfigError(
                f"{self.model.name} cannot keep the portrait's {self.keep}, since its keypoints do not divide a face "
                f"into pose and expression; use {DEFAULT_MODEL} or landmark-warp."
            )
        if self.view is not None:
            if not isinstance(self.view, View):
                raise ConfigError(f"view must be a View or None, not {self.view!r:.60}.")
            check_turns(self.model.motion_spec, self.model.name)
        if self.mouth == "sound" and not self.model.capabilities.dubbing:
            raise ConfigError(f"{self.model.name} cannot be dubbed: leave mouth out.")
        size = self.model.batch_size if self.batch_size is None else self.batch_size
        object.__setattr__(self, "batch_size", whole_number(size, "batch_size", 1))

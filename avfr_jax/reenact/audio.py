"""The audio of a run: which file, its mel spectrogram, and mouths that follow it instead of the driving face."""

import contextlib
import dataclasses
import os
import pathlib
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np

from avfr_jax.arguments import mono_sound
from avfr_jax.models.base import Capabilities
from avfr_jax.tracking import Clip, DrivingSource, TrackedFrame
from avfr_jax.typing import Float

Mouth = Literal["auto", "driver", "sound"]


@dataclasses.dataclass(frozen=True, eq=False)
class AudioConditioning:
    """Audio inputs of the model.

    Attributes:
      fps: frames a second of the driving clip.
      mel: `[80, M]`, for models conditioned on audio; None without audio.
      mouth: replaces the driving face's mouth in its landmarks, for dubbed runs of models with landmarks.
      dubbed: the mouth follows the audio, not the driving face.
    """

    fps: float
    mel: Float[np.ndarray, "80 m"] | None = None
    mouth: "AudioDrivenMouth | None" = None
    dubbed: bool = False

    def windows(self, frames: Sequence[TrackedFrame]) -> Float[np.ndarray, "n 80 16"] | None:
        """The mel window around each frame."""
        if self.mel is None:
            return None
        from avfr_jax.media.mel import mel_windows

        return mel_windows(self.mel, np.asarray([frame.index for frame in frames]), self.fps)


class AudioDrivenMouth:
    """Replaces the mouths of driving faces by those predicted from a mel spectrogram; None keeps them shut."""

    def __init__(self, mel: Float[np.ndarray, "80 m"] | None, fps: float) -> None:
        from avfr_jax.faces.spoken_mouth import shipped
        from avfr_jax.media.mel import COLUMNS_PER_SECOND

        self._model = shipped()
        count = 0 if mel is None else int(np.ceil(mel.shape[1] * fps / COLUMNS_PER_SECOND))
        self._numbers = np.zeros((0, 2)) if mel is None else self._model.numbers(mel, np.arange(count), fps)
        self._rest: Any = None

    def set_reference(self, frame: TrackedFrame) -> None:
        """Take the driving face's shape from the frame that corresponds to the source's pose."""
        from avfr_jax.faces.spoken_mouth import Placement

        assert frame.landmarks is not None
        self._rest = self._model.shut(Placement.of(frame.landmarks).removed(frame.landmarks))

    def __call__(self, frame: TrackedFrame) -> TrackedFrame:
        numbers = self._numbers[frame.index] if frame.index < len(self._numbers) else np.zeros(2, np.float32)
        assert frame.landmarks is not None
        return dataclasses.replace(frame, landmarks=self._model.spoken(frame.landmarks, self._rest, numbers))


def prepare_audio(
    driving: Clip | DrivingSource, audio: Any, dubbed: bool, needs: Capabilities, warn: Callable[[str], None]
) -> AudioConditioning:
    """The audio inputs of a model; warns if the clip has no audio. Raises InputError for unreadable audio."""
    fps, by_mesh = float(driving.fps), dubbed and needs.landmarks
    mel = None
    if by_mesh or needs.audio:
        with audio_file(driving, audio) as path:
            if path is None and isinstance(audio, str):
                given = "the model is given silence" if needs.audio else "the mouth stays shut"
                warn(f"The driving clip has no audio: {given}.")
            mel = _mel(audio if path is None else path)
    return AudioConditioning(fps, mel if needs.audio else None, AudioDrivenMouth(mel, fps) if by_mesh else None, dubbed)


@contextlib.contextmanager
def audio_file(driving: Clip | DrivingSource, audio: Any) -> Any:
    """The file meant by `audio` for as long as the context; None for none, and for samples."""
    if isinstance(audio, str) and audio == "driving":
        with driving.audio_file() as path:
            yield path
    else:
        yield audio if isinstance(audio, str | os.PathLike) else None


def is_dubbed(mouth: Mouth, driving: Any, audio: Any, can_dub: bool) -> bool:
    """Whether audio moves the mouth: with `auto`, where it is another than the driving clip's own."""
    if mouth != "auto" or not can_dub:
        return mouth == "sound"
    paths = [pathlib.Path(value) for value in (driving, audio) if isinstance(value, str | os.PathLike)]
    same = len(paths) == 2 and paths[0] == paths[1]
    return not (audio is None or same or (isinstance(audio, str) and audio == "driving"))


def read_sound(audio: Any) -> Float[np.ndarray, " t"]:
    """Mono samples of a file at 16 kHz, or the given ones, see `arguments.mono_sound`. Raises InputError for others."""
    from avfr_jax.media.audio import read_audio

    return read_audio(audio) if isinstance(audio, str | os.PathLike) else mono_sound(audio)


def padded_mel(samples: Float[np.ndarray, " t"]) -> Float[np.ndarray, "80 m"]:
    """The mel spectrogram of samples. Windows repeat its last column, which has to be silent where the audio ends
    before the clip."""
    from avfr_jax.media.mel import RATE, mel_spectrogram

    return mel_spectrogram(np.pad(samples, (0, RATE // 5)))


def _mel(audio: Any) -> Float[np.ndarray, "80 m"] | None:
    if audio is None or (isinstance(audio, str) and audio == "driving"):
        return None
    return padded_mel(read_sound(audio))

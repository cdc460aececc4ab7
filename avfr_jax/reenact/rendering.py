"""Rendering in batches of one size, so that nothing is compiled anew."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from avfr_jax.models.base import Animator
from avfr_jax.reenact.audio import AudioConditioning
from avfr_jax.reenact.motion import Retargeter, Source
from avfr_jax.tracking import TrackedFrame
from avfr_jax.typing import UInt8

_CHROMA_NOISE = 4  # levels


def batches(
    frames: Iterable[TrackedFrame], size: int, is_missing: Callable[[TrackedFrame], bool]
) -> Iterator[list[TrackedFrame]]:
    """Runs of frames with at most `size` faces in each; frames without a face come on top."""
    run: list[TrackedFrame] = []
    faces = 0
    for frame in frames:
        run.append(frame)
        faces += not is_missing(frame)
        if faces == size or len(run) >= 4 * size:
            yield run
            run, faces = [], 0
    if run:
        yield run


class Renderer:
    """Frames of the source with the motion of driving frames, in padded batches. A network that learned from colour
    tints a greyscale portrait: there only the luma of what it renders is kept."""

    def __init__(
        self, model: Animator, source: Source, retargeter: Retargeter, audio: AudioConditioning, batch_size: int
    ) -> None:
        self._model, self._source, self._retargeter = model, source, retargeter
        self._audio, self._batch_size = audio, batch_size
        picture = source.frame.image
        self._grey = picture is not None and is_greyscale(picture)

    def __call__(self, frames: Sequence[TrackedFrame]) -> list[UInt8[np.ndarray, "s s 3"]]:
        """The generated frames, uint8, for at most `batch_size` frames with a face."""
        padded = [*frames, *[frames[-1]] * (self._batch_size - len(frames))]
        motion = self._retargeter.retarget(self._retargeter.motion(padded), [frame.index for frame in padded])
        mel = self._audio.windows(padded)
        generated = self._model.animate(self._source.encoded, self._source.keypoints, motion, mel)
        rendered = list(np.asarray(_to_bytes(generated))[: len(frames)])
        return [_luma(frame) for frame in rendered] if self._grey else rendered


def is_greyscale(image: UInt8[np.ndarray, "h w 3"]) -> bool:
    """Whether a picture has no colour, but for the rounding of a JPEG's chroma in up to one of 200 pixels."""
    levels = image.astype(np.int16)
    return bool(np.percentile(np.abs(levels - levels[..., 1:2]).max(-1), 99.5) <= _CHROMA_NOISE)


def _luma(frame: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h w 3"]:
    """BT.601's luma in all three channels."""
    import cv2

    return cv2.cvtColor(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)


@jax.jit
def _to_bytes(frames: Any) -> Any:
    return (jnp.clip(frames, 0, 1) * 255 + 0.5).astype(jnp.uint8)

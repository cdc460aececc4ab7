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
    """Frames of the source with the motion of driving frames, in padded batches."""

    def __init__(
        self, model: Animator, source: Source, retargeter: Retargeter, audio: AudioConditioning, batch_size: int
    ) -> None:
        self._model, self._source, self._retargeter = model, source, retargeter
        self._audio, self._batch_size = audio, batch_size

    def __call__(self, frames: Sequence[TrackedFrame]) -> list[UInt8[np.ndarray, "s s 3"]]:
        """The generated frames, uint8, for at most `batch_size` frames with a face."""
        padded = [*frames, *[frames[-1]] * (self._batch_size - len(frames))]
        motion = self._retargeter.retarget(self._retargeter.motion(padded), frames[0].index)
        mel = self._audio.windows(padded)
        generated = self._model.animate(self._source.encoded, self._source.keypoints, motion, mel)
        return list(np.asarray(_to_bytes(generated))[: len(frames)])


@jax.jit
def _to_bytes(frames: Any) -> Any:
    return (jnp.clip(frames, 0, 1) * 255 + 0.5).astype(jnp.uint8)

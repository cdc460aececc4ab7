"""Preparation of videos, or of rendered heads, as a dataset of face clips (`pipelines.record`) for training.

`prepare(videos, out, config)` cuts one square around the face out of each video, as VoxCeleb's protocol does, and
stores the frames with mesh image, person mask, landmarks, sound and mel spectrogram. `prepare_synthetic(out, …)`
renders a dataset of the same form, with exact landmarks.
"""

from typing import TYPE_CHECKING

from avfr_jax.packages import lazy_names

if TYPE_CHECKING:
    from data.clip_folder.config import ClipConfig, Report, TooManyRejectedError
    from data.clip_folder.run import prepare
    from data.clip_folder.synthetic import prepare_synthetic

__all__ = ["ClipConfig", "Report", "TooManyRejectedError", "prepare", "prepare_synthetic"]

# The program of this package begins with nothing else imported.
__getattr__ = lazy_names(
    __name__,
    {
        "config": ("ClipConfig", "Report", "TooManyRejectedError"),
        "run": ("prepare",),
        "synthetic": ("prepare_synthetic",),
    },
)

"""Preparation of videos, or of rendered heads, as a dataset of face clips (`pipelines.record`) for training.

`prepare(videos, out, config)` cuts one square around the face out of each video, as VoxCeleb's protocol does, and
stores the frames with mesh image, person mask, landmarks, sound and mel spectrogram. `prepare_synthetic(out, …)`
renders a dataset of the same form, with exact landmarks.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from data.clip_folder.config import ClipConfig, Report, TooManyRejectedError
    from data.clip_folder.run import prepare
    from data.clip_folder.synthetic import prepare_synthetic

__all__ = ["ClipConfig", "Report", "TooManyRejectedError", "prepare", "prepare_synthetic"]

_WHERE = {
    "ClipConfig": "config",
    "Report": "config",
    "TooManyRejectedError": "config",
    "prepare": "run",
    "prepare_synthetic": "synthetic",
}


def __getattr__(name: str) -> Any:
    """Import public names when first used: the program of this package begins with nothing else imported."""
    if name in _WHERE:
        import importlib

        return getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

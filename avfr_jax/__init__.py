"""Talking-head reenactment, few-byte video calls and free-view heads in JAX.

>>> import avfr_jax
>>> model = avfr_jax.load_model("landmark-warp")
>>> for frame in avfr_jax.Reenactor(model).reenact("portrait.jpg", "driving.mp4"): ...
"""

from typing import TYPE_CHECKING

from avfr_jax.folders import set_library_folders
from avfr_jax.packages import lazy_names

__version__ = "0.2.0.dev0"

if TYPE_CHECKING:
    from avfr_jax.model_store import (
        list_models,
        load_interpolator,
        load_model,
        load_residual_codec,
        load_super_resolver,
    )
    from avfr_jax.motion import Keypoints
    from avfr_jax.reenact import Reenactor

set_library_folders()

__all__ = [
    "Keypoints",
    "Reenactor",
    "list_models",
    "load_interpolator",
    "load_model",
    "load_residual_codec",
    "load_super_resolver",
]

__getattr__ = lazy_names(  # so that `avfr_jax.ops` imports alone
    __name__,
    {
        "model_store": (
            "list_models",
            "load_interpolator",
            "load_model",
            "load_residual_codec",
            "load_super_resolver",
        ),
        "motion": ("Keypoints",),
        "reenact": ("Reenactor",),
    },
)

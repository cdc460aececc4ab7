"""Talking-head reenactment, few-byte video calls and free-view heads in JAX.

>>> import avfr_jax
>>> model = avfr_jax.load_model("landmark-warp")
>>> for frame in avfr_jax.Reenactor(model).reenact("portrait.jpg", "driving.mp4"): ...
"""

from typing import TYPE_CHECKING, Any

from avfr_jax.folders import set_library_folders

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

_WHERE = {
    "Keypoints": "avfr_jax.motion",
    "Reenactor": "avfr_jax.reenact",
    "list_models": "avfr_jax.model_store",
    "load_super_resolver": "avfr_jax.model_store",
    "load_interpolator": "avfr_jax.model_store",
    "load_model": "avfr_jax.model_store",
    "load_residual_codec": "avfr_jax.model_store",
}


def __getattr__(name: str) -> Any:
    """Import public names when first used, so that `avfr_jax.ops` imports alone."""
    if name in _WHERE:
        import importlib

        from avfr_jax.packages import named_packages

        with named_packages():
            return getattr(importlib.import_module(_WHERE[name]), name)
    raise AttributeError(f"module 'avfr_jax' has no attribute {name!r}")

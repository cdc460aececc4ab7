"""Which model families there are, and how each is made from a config and weights."""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

import jax

from avfr_jax.config import from_dict
from avfr_jax.errors import ConfigError
from avfr_jax.models.base import FindPriors

Kind = Literal["animator", "interpolator", "super_resolver", "residual_codec"]
KINDS: dict[str, Kind] = {
    "avfr": "animator",
    "fomm": "animator",
    "mesh-fomm": "animator",
    "landmark-warp": "animator",
    "interpolation": "interpolator",
    "super-resolution": "super_resolver",
    "residual": "residual_codec",
}
"""What the models of each family are: see `models.base.Animator`, `models.interpolation.Interpolator`,
`models.super_resolution.SuperResolver` and `models.residual.ResidualCodec`."""


@dataclasses.dataclass(frozen=True)
class Family:
    """One implementation of a kind of model.

    Attributes:
      config: its config dataclass.
      make: (config, weights, name, find_priors) -> model of the family's kind.
      shapes: config -> the tree of weights as `jax.ShapeDtypeStruct`, or None for a family without weights.
    """

    config: type
    make: Callable[[Any, Any, str, FindPriors | None], Any]
    shapes: Callable[[Any], Any] | None = None


def _fomm(config: Any, variables: Any, name: str, find_priors: FindPriors | None) -> Any:
    from avfr_jax.models.fomm_animator import FommAnimator

    return FommAnimator(config, variables, name)


def _mesh_fomm(config: Any, variables: Any, name: str, find_priors: FindPriors | None) -> Any:
    from avfr_jax.models.mesh_fomm_animator import MeshFommAnimator

    return MeshFommAnimator(config, variables, find_priors, name)


def _avfr(config: Any, variables: Any, name: str, find_priors: FindPriors | None) -> Any:
    from avfr_jax.models.avfr_animator import AvfrAnimator

    return AvfrAnimator(config, variables, find_priors, name)


def _landmark_warp(config: Any, variables: Any, name: str, find_priors: FindPriors | None) -> Any:
    from avfr_jax.models.landmark_animator import LandmarkAnimator

    return LandmarkAnimator(config, find_priors, name)


def _interpolation(config: Any, variables: Any, name: str, find_priors: FindPriors | None) -> Any:
    from avfr_jax.models.interpolation import Interpolator

    return Interpolator(config, variables, name)


def _super_resolution(config: Any, variables: Any, name: str, find_priors: FindPriors | None) -> Any:
    from avfr_jax.models.super_resolution import SuperResolver

    return SuperResolver(config, variables, name)


def _residual(config: Any, variables: Any, name: str, find_priors: FindPriors | None) -> Any:
    from avfr_jax.models.residual import ResidualCodec

    return ResidualCodec(config, variables, name)


def _shapes(init: Callable[[Any, Any], Any]) -> Callable[[Any], Any]:
    """The shapes of the weights that a config's `init` would draw."""
    return lambda config: jax.eval_shape(lambda key: init(config, key), jax.random.key(0))


def family(name: str) -> Family:
    """A family by its name.

    Raises:
      ConfigError: there is none of that name.
    """
    if name == "fomm":
        from avfr_jax.models import fomm

        return Family(fomm.FommConfig, _fomm, _shapes(fomm.init))
    if name == "mesh-fomm":
        from avfr_jax.models import mesh_fomm

        return Family(mesh_fomm.MeshFommConfig, _mesh_fomm, _shapes(mesh_fomm.init))
    if name == "avfr":
        from avfr_jax.models import avfr

        return Family(avfr.AvfrConfig, _avfr, _shapes(avfr.init))
    if name == "landmark-warp":
        from avfr_jax.models.landmark_warp import LandmarkWarpConfig

        return Family(LandmarkWarpConfig, _landmark_warp)
    if name == "interpolation":
        from avfr_jax.models import interpolation

        return Family(interpolation.InterpolationConfig, _interpolation, _shapes(interpolation.init))
    if name == "super-resolution":
        from avfr_jax.models import super_resolution

        return Family(super_resolution.SuperResolutionConfig, _super_resolution, _shapes(super_resolution.init))
    if name == "residual":
        from avfr_jax.models import residual

        return Family(residual.ResidualConfig, _residual, _shapes(residual.init))
    raise ConfigError(f"There is no model family {name!r}; there are {', '.join(KINDS)}.")


def make_model(
    family_name: str, config: dict[str, Any], variables: Any, name: str, find_priors: FindPriors | None = None
) -> Any:
    """A model from plain settings and weights, of the kind that `KINDS` says."""
    kind = family(family_name)
    return kind.make(from_dict(kind.config, config), variables, name, find_priors)

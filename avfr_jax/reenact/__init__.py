"""Reenactment: a source portrait animated by the face in a driving clip."""

from avfr_jax.reenact.composite import side_by_side
from avfr_jax.reenact.reenactor import Reenactor
from avfr_jax.reenact.results import Explained, Report, Step
from avfr_jax.reenact.session import Session

__all__ = ["Explained", "Reenactor", "Report", "Session", "Step", "side_by_side"]

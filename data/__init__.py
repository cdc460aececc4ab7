"""Datasets: preparation of videos as clips of faces, and rendered heads."""

from avfr_jax.packages import name_missing_packages

name_missing_packages()

"""Training runs: configs of published and of our own models, and the program that runs them."""

from avfr_jax.packages import name_missing_packages

name_missing_packages()

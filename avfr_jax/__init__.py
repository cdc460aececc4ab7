"""Talking-head reenactment, few-byte video calls and free-view heads in JAX."""

__version__ = "0.1.0"

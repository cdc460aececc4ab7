"""Flax building blocks used by more than one network. Nothing here depends on faces."""

"""Flax building blocks used by more than one network. Nothing here knows what a face is."""

"""Metrics of images, faces and rate: pure functions of arrays."""

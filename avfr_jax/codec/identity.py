"""Fingerprint of a model known by name."""

from avfr_jax.model_store import describe_model


def model_identity(name: str) -> bytes:
    """The model's fingerprint. Raises ConfigError where there is no such model."""
    return bytes.fromhex(describe_model(name).fingerprint)

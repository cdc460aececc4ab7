"""Which model a stream was made for."""

import functools
import hashlib
import json

from avfr_jax.model_store import describe_model


@functools.cache
def model_identity(name: str) -> bytes:
    """Eight bytes that two models share only if they draw the same: of family, config and weights.

    Raises:
      ConfigError: there is no such model.
    """
    info = describe_model(name)
    digest = hashlib.sha256(json.dumps([info.family, info.config], sort_keys=True).encode())
    if info.folder is not None:
        for path in sorted((info.folder / "weights").rglob("*")):
            if path.is_file():
                digest.update(str(path.relative_to(info.folder)).encode() + path.read_bytes())
    return digest.digest()[:8]

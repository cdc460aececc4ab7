"""The models of a stream, by the fingerprints in its header."""

from typing import TYPE_CHECKING, Any

from avfr_jax.codec.bitstream import BitstreamError
from avfr_jax.codec.header import Header
from avfr_jax.codec.motion_space import MotionSpace
from avfr_jax.errors import ConfigError
from avfr_jax.model_store import current_fingerprint, find_model, load_model, load_residual_codec
from avfr_jax.models.base import Animator

if TYPE_CHECKING:
    from avfr_jax.models.residual import ResidualCodec


def require_fingerprint(model: Any, name: str, fingerprint: bytes) -> None:
    """Raises ConfigError where a model is not the one of that name and fingerprint in a header."""
    if model.fingerprint != current_fingerprint(fingerprint):
        raise ConfigError(
            f"the stream was made with {name} of fingerprint {current_fingerprint(fingerprint).hex()}, and the model "
            f"{model.name} here is another ({model.fingerprint.hex()})"
        )


def stream_model(header: Header, space: MotionSpace, given: Animator | None) -> Animator:
    """The given model, if it is the stream's, or the one with its fingerprint among those known by name.

    Raises:
      ConfigError: the given model is another, or there is none.
      BitstreamError: the stream's motion is of another kind than the model's.
    """
    model = load_model(find_model(header.fingerprint, header.model)) if given is None else given
    require_fingerprint(model, header.model, header.fingerprint)
    if model.image_size != header.size:
        raise ConfigError(f"the stream is of {header.size} × {header.size} pixels, not {model.name}'s size")
    if not space.drives(model.motion_spec):
        raise BitstreamError(f"the stream's motion is not of the kind that moves {model.name}")
    return model


def stream_residual_codec(header: Header, given: "ResidualCodec | None") -> "ResidualCodec":
    """As `stream_model`, of the model that codes residuals."""
    name, fingerprint = header.residual_codec, header.residual_codec_fingerprint
    codec = load_residual_codec(find_model(fingerprint, name, "residual_codec")) if given is None else given
    require_fingerprint(codec, name, fingerprint)
    return codec

"""Video calls in a few bytes a frame: bitstream, entropy coding, motion, reference frames, sender and receiver."""

from typing import TYPE_CHECKING

from avfr_jax.packages import lazy_names

if TYPE_CHECKING:
    from avfr_jax.codec.receiver import Receiver
    from avfr_jax.codec.sender import Sender
    from avfr_jax.codec.settings import SenderSettings

__all__ = ["Receiver", "Sender", "SenderSettings"]

__getattr__ = lazy_names(  # a missing optional package is then named with the line that brings it
    __name__, {"receiver": ("Receiver",), "sender": ("Sender",), "settings": ("SenderSettings",)}
)

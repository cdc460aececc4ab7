"""Video calls in a few bytes a frame: bitstream, entropy coding, motion, reference frames, sender and receiver."""

from avfr_jax.codec.receiver import Receiver
from avfr_jax.codec.sender import Sender
from avfr_jax.codec.settings import SenderSettings

__all__ = ["Receiver", "Sender", "SenderSettings"]

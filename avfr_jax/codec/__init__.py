"""Video calls in a few bytes a frame: bitstream, entropy coding, motion, pivots, sender and receiver."""

from avfr_jax.codec.receiver import Receiver
from avfr_jax.codec.sender import Sender, SenderSettings

__all__ = ["Receiver", "Sender", "SenderSettings"]

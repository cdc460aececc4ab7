"""Video calls in a few bytes a frame: bitstream, entropy coding, motion, pivots, sender and receiver."""

"""Volumes `[N, D, H, W, C]` and images whose channels hold them."""

from avfr_jax.typing import Array, Float


def to_volume(x: Float[Array, "n h w cd"], depth: int) -> Float[Array, "n d h w c"]:
    """An image of C · D channels as a volume; channel c · D + d becomes channel c at depth d, as in the unofficial
    face-vid2vid program."""
    n, h, w, channels = x.shape
    return x.reshape(n, h, w, channels // depth, depth).transpose(0, 4, 1, 2, 3)


def to_image(x: Float[Array, "n d h w c"]) -> Float[Array, "n h w cd"]:
    """The inverse of `to_volume`."""
    n, d, h, w, c = x.shape
    return x.transpose(0, 2, 3, 4, 1).reshape(n, h, w, c * d)

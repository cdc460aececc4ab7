"""A function of small squares applied to pictures of any size: overlapping windows, blended without seams."""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from avfr_jax.typing import Array, Float


@functools.lru_cache(maxsize=64)
def window_starts(length: int, size: int, overlap: int) -> tuple[int, ...]:
    """First pixels of the fewest windows of `size` pixels that cover `length` of them, evenly spread, each sharing at
    least `overlap` pixels with the next.

    Raises:
      ValueError: the axis is shorter than a window, or the overlap no smaller than one.
    """
    if not 0 <= overlap < size or length < size:
        raise ValueError(f"windows of {size} pixels that share {overlap} do not cover {length}")
    count = math.ceil((length - size) / (size - overlap)) + 1
    return tuple(int(x) for x in np.round(np.linspace(0, length - size, count)))


@functools.lru_cache(maxsize=64)
def blending_weights(length: int, size: int, overlap: int) -> Float[np.ndarray, "windows size"]:
    """How much each window of `window_starts` counts at each of its pixels, float32: a raised cosine over the overlap,
    divided so that the windows over a pixel sum to 1."""
    starts = window_starts(length, size, overlap)
    edge = np.minimum(np.arange(size), np.arange(size)[::-1]) + 0.5
    rise = np.sin(np.pi / 2 * np.minimum(edge / max(overlap, 1), 1)) ** 2
    total = np.zeros(length)
    for start in starts:
        total[start : start + size] += rise
    return np.stack([rise / total[start : start + size] for start in starts]).astype(np.float32)


def over_windows(
    function: Callable[[Array], Array], pictures: Float[Array, "n h w c"], size: int, overlap: int, batch: int
) -> Float[Array, "n h w d"]:
    """Apply a function of `size` × `size` windows to whole pictures.

    The windows go through the function `batch` at a time, always as many (the last ones are repeated and do not count),
    so that a network inside is traced and compiled for one shape, independent of the pictures'.

    Args:
      function: `[batch, size, size, C]` -> `[batch, size, size, D]`.
      pictures: at least `size` pixels either way.
      size: of the windows.
      overlap: pixels that neighbouring windows share at least, over which they are blended.
      batch: windows at a time.

    Raises:
      ValueError: the pictures are smaller than a window, or the overlap no smaller than one.
    """
    n, *shape, channels = pictures.shape
    axes = [(window_starts(length, size, overlap), blending_weights(length, size, overlap)) for length in shape]
    places = np.stack(np.meshgrid(*(np.arange(k) for k in (n, *(len(s) for s, _ in axes))), indexing="ij"), -1)
    places = places.reshape(-1, 3)
    count = np.arange(-(-len(places) // batch) * batch)
    counts = jnp.asarray((count < len(places)).reshape(-1, batch), pictures.dtype)
    places = places[np.minimum(count, len(places) - 1)].reshape(-1, batch, 3)
    rows, columns = (jnp.asarray(starts) for starts, _ in axes)
    down, across = (jnp.asarray(weights, pictures.dtype) for _, weights in axes)

    def corner(place: Array) -> tuple[Array, ...]:
        return place[0], rows[place[1]], columns[place[2]], jnp.zeros((), rows.dtype)

    def some(canvas: Array, part: tuple[Array, Array]) -> tuple[Array, None]:
        where, real = part
        windows = jax.vmap(lambda p: jax.lax.dynamic_slice(pictures, corner(p), (1, size, size, channels))[0])(where)
        results = function(windows).astype(canvas.dtype)

        def add(i: Array, canvas: Array) -> Array:
            place = where[i]
            share = real[i] * down[place[1]][:, None, None] * across[place[2]][:, None]
            under = jax.lax.dynamic_slice(canvas, corner(place), (1, size, size, canvas.shape[-1]))
            return jax.lax.dynamic_update_slice(canvas, under + (share * results[i])[None], corner(place))

        return jax.lax.fori_loop(0, batch, add, canvas), None

    window = jax.ShapeDtypeStruct((batch, size, size, channels), pictures.dtype)
    out = jnp.zeros((n, *shape, jax.eval_shape(function, window).shape[-1]), pictures.dtype)
    return jax.lax.scan(some, out, (jnp.asarray(places), counts))[0]

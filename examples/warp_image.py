"""Warp an image by the dense flow of a few keypoints, and differentiate through it: the pure core, JAX alone.

    python examples/warp_image.py

Gradient descent under `jax.jit` recovers the keypoints of a warped image.
"""

import jax
import jax.numpy as jnp
import optax

from avfr_jax.ops.flow import dense_flow, sparse_motions
from avfr_jax.ops.grids import pixel_grid
from avfr_jax.ops.heatmaps import gaussian_heatmaps
from avfr_jax.ops.sampling import grid_sample_2d

SIZE, KEYPOINTS = 64, 4
GRID = pixel_grid(SIZE, SIZE)  # [64, 64, 2]: (x, y) in [-1, 1]


def warp(image: jax.Array, source: jax.Array, driving: jax.Array) -> jax.Array:
    """Move an image so that its source keypoints come to the driving ones.

    Args:
      image: `[1, H, W, 3]`.
      source: `[1, K, 2]`, (x, y) in [-1, 1].
      driving: `[N, K, 2]`.

    Returns:
      `[N, H, W, 3]`.
    """
    motions = sparse_motions(source, driving, GRID)  # [N, K + 1, H, W, 2]; the first is the identity
    near = 6 * gaussian_heatmaps(driving, GRID, 0.1)  # [N, H, W, K]; the background's logit is 0
    mask = jax.nn.softmax(jnp.pad(near, ((0, 0),) * 3 + ((1, 0),)), axis=-1)
    flow = dense_flow(mask, motions)  # [N, H, W, 2]
    return grid_sample_2d(jnp.broadcast_to(image, (len(driving), *image.shape[1:])), flow)


def main() -> list[float]:
    """Recover the driving keypoints; gives the loss of each step."""
    stripes = 0.5 + 0.5 * jnp.sin(8 * GRID + jnp.arange(2))
    image = jnp.concatenate([stripes, 0.5 + 0.5 * GRID[..., :1]], axis=-1)[None]
    source = jax.random.uniform(jax.random.key(0), (1, KEYPOINTS, 2), minval=-0.6, maxval=0.6)
    target = warp(image, source, source + 0.08)

    adam = optax.adam(0.005)
    driving, state, losses = source, adam.init(source), []
    gradients = jax.jit(jax.value_and_grad(lambda d: jnp.mean((warp(image, source, d) - target) ** 2)))
    for _ in range(60):
        loss, gradient = gradients(driving)
        updates, state = adam.update(gradient, state)
        driving = driving + updates
        losses.append(float(loss))
    error = float(jnp.abs(driving - source - 0.08).max())
    print(f"loss {losses[0]:.5f} -> {losses[-1]:.5f}; largest error of a keypoint {error:.3f}")
    return losses


if __name__ == "__main__":
    main()

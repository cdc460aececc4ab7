"""Rasterisation of triangle meshes: interpolation, depth order, gradients."""

import jax
import jax.numpy as jnp
import numpy as np

from avfr_jax.ops.grids import pixel_grid
from avfr_jax.ops.rasterise import rasterise

GRID = pixel_grid(24, 32)


def test_linear_values_are_kept_on_a_square_of_both_orientations():
    """Two triangles that share an edge, one clockwise and one not: no gap between them, nothing beside them."""
    corners = np.array([[-0.5, -0.6, 0.3], [0.7, -0.6, 0.1], [0.7, 0.4, 0.2], [-0.5, 0.4, 0.9]], np.float32)
    triangles = np.array([[0, 1, 2], [0, 3, 2]])
    plane = np.array([[2.0, -1.0], [0.5, 3.0]], np.float32)
    vertices = jnp.stack([corners, corners + jnp.array([0.1, 0.2, 0.0])])
    got = rasterise(vertices, triangles, vertices[..., :2] @ plane + 4, GRID)
    for index, move in enumerate(((0, 0), (0.1, 0.2))):
        x, y = GRID[..., 0] - move[0], GRID[..., 1] - move[1]
        inside = (x > -0.5) & (x < 0.7) & (y > -0.6) & (y < 0.4)
        np.testing.assert_array_equal(got.covered[index], inside)
        want = np.where(inside[..., None], GRID @ plane + 4, 0)
        np.testing.assert_allclose(got.values[index], want, atol=1e-5)


def test_the_nearest_triangle_is_seen():
    """Two large triangles that pass through each other, and one without an area before both."""
    wide = [[-3, -3], [3, -3], [0, 4]]
    vertices = np.array([[*p, p[0]] for p in wide] + [[*p, -p[0]] for p in wide] + [[0, 0, -9]] * 3, np.float32)
    values = np.repeat([[1.0], [2.0], [3.0]], 3, axis=0).astype(np.float32)
    triangles = np.arange(9).reshape(3, 3)
    got = rasterise(jnp.asarray(vertices)[None], triangles, jnp.asarray(values)[None], GRID)
    assert np.asarray(got.covered).all()
    np.testing.assert_array_equal(got.values[0, ..., 0], np.where(GRID[..., 0] < 0, 1, 2))


def test_gradients_are_those_of_the_interpolation():
    rng = np.random.default_rng(0)
    vertices = jnp.asarray(rng.uniform(-0.9, 0.9, (1, 3, 3)), jnp.float32)
    values = jnp.asarray(rng.normal(size=(1, 3, 2)), jnp.float32)
    weights = jnp.asarray(rng.normal(size=(*GRID.shape[:2], 2)), jnp.float32)

    def total(values, vertices):
        return jnp.sum(weights * rasterise(vertices, np.array([[0, 1, 2]]), values, GRID).values[0])

    by_values, by_vertices = jax.grad(total, (0, 1))(values, vertices)
    step = 1e-3
    for index in ((0, 1, 0), (0, 2, 1)):
        moved = values.at[index].add(step)
        assert abs((total(moved, vertices) - total(values, vertices)) / step - by_values[index]) < 1e-2
    assert float(jnp.abs(by_vertices[..., :2]).max()) > 0.1
    np.testing.assert_array_equal(by_vertices[..., 2], 0)  # depth decides, it does not interpolate

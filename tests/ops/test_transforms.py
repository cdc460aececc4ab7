"""Every public function of `avfr_jax.ops` under jit, vmap and grad, in the dimensions that it takes."""

import importlib
import inspect
import pkgutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from avfr_jax import ops
from avfr_jax.ops import (
    flow,
    grids,
    heatmaps,
    linear,
    matching,
    matrices,
    precision,
    rasterise,
    resize,
    rotations,
    sampling,
    tps,
    volumes,
)
from avfr_jax.ops import windows as windows_module

rng = np.random.default_rng(0)


def _floats(*shape, low=-0.8, high=0.8):
    return jnp.asarray(rng.uniform(low, high, shape), jnp.float32)


def _near_identity(*shape):
    return jnp.eye(shape[-1]) + _floats(*shape, low=-0.2, high=0.2)


def _space(dims):
    return (4, 5, 6)[3 - dims :]


def _warp(dims):
    return tps.sample_warp(jax.random.key(0), 2, points_tps=3, dims=dims)


def _both(case):
    return [case(dims) for dims in (2, 3)]


# Function -> cases (function of arrays, its arguments). Shape arguments are bound.
CASES = {
    "flow.dense_flow": _both(lambda d: (flow.dense_flow, _floats(2, *_space(d), 3), _floats(2, 3, *_space(d), d))),
    "flow.sparse_motions": [
        *_both(lambda d: (flow.sparse_motions, _floats(1, 3, d), _floats(2, 3, d), _floats(*_space(d), d))),
        *_both(
            lambda d: (
                flow.sparse_motions,
                _floats(1, 3, d),
                _floats(2, 3, d),
                _floats(*_space(d), d),
                _near_identity(1, 3, d, d),
                _near_identity(2, 3, d, d),
            )
        ),
    ],
    "flow.warp_by_each": _both(lambda d: (flow.warp_by_each, _floats(1, *_space(d), 3), _floats(2, 3, *_space(d), d))),
    "grids.to_pixels": [(lambda x: grids.to_pixels(x, 8), _floats(3))],
    "grids.to_normalised": [(lambda x: grids.to_normalised(x, 8), _floats(3))],
    "heatmaps.soft_argmax": _both(
        lambda d: (heatmaps.soft_argmax, _floats(2, *_space(d), 3), grids.corner_grid(*_space(d)))
    ),
    "heatmaps.spatial_softmax": _both(
        lambda d: (lambda x: heatmaps.spatial_softmax(x, 0.1), _floats(2, *_space(d), 3))
    ),
    "heatmaps.gaussian_heatmaps": _both(
        lambda d: (heatmaps.gaussian_heatmaps, _floats(2, 3, d), grids.corner_grid(*_space(d)))
    ),
    "heatmaps.heatmap_difference": _both(
        lambda d: (heatmaps.heatmap_difference, _floats(1, 3, d), _floats(2, 3, d), grids.corner_grid(*_space(d)))
    ),
    "linear.solve": [(linear.solve, _near_identity(2, 4, 4), _floats(2, 4, 3))],
    "matching.look_up": [(matching.look_up, _floats(2, 8, 9, 3), _floats(2, 8, 9, 2))],
    "matching.halfway_motion": [
        (lambda a, b: matching.halfway_motion(a, b, 1), _floats(1, 8, 9, 3), _floats(1, 8, 9, 3))
    ],
    "matrices.small_inverse": _both(lambda d: (matrices.small_inverse, _near_identity(5, d, d))),
    "precision.widen": [(precision.widen, _floats(3))],
    "rasterise.rasterise": [
        (
            lambda x, y: rasterise.rasterise(x, np.array([[0, 1, 2], [1, 2, 3]]), y, grids.pixel_grid(6, 5)).values,
            _floats(2, 4, 3),
            _floats(2, 4, 2),
        )
    ],
    "resize.resize_linear": _both(
        lambda d: (lambda x: resize.resize_linear(x, (7, 3, 5)[:d]), _floats(2, *_space(d), 3))
    ),
    "resize.resize_cubic": [(lambda x: resize.resize_cubic(x, (7, 3)), _floats(2, 5, 6, 3))],
    "resize.space_to_depth": [(lambda x: resize.space_to_depth(x, 2), _floats(2, 4, 6, 3))],
    "resize.depth_to_space": [(lambda x: resize.depth_to_space(x, 2), _floats(2, 4, 6, 4))],
    "resize.upsample_nearest": _both(
        lambda d: (lambda x: resize.upsample_nearest(x, (1, 2, 2)[:d]), _floats(2, *_space(d), 3))
    ),
    "resize.resize_nearest": _both(
        lambda d: (lambda x: resize.resize_nearest(x, (8, 3, 9)[:d]), _floats(2, *_space(d), 3))
    ),
    "resize.average_pool": _both(
        lambda d: (lambda x: resize.average_pool(x, (2, 2, 1)[:d]), _floats(2, *_space(d), 3))
    ),
    "resize.max_pool": [(lambda x: resize.max_pool(x, 2), _floats(2, 5, 6, 3))],
    "resize.antialias_downsample": [(lambda x: resize.antialias_downsample(x, 0.5), _floats(2, 8, 9, 3))],
    "resize.pyramid": [(lambda x: resize.pyramid(x, (1.0, 0.5)), _floats(2, 8, 9, 3))],
    "rotations.euler_to_matrix": [(rotations.euler_to_matrix, _floats(4), _floats(4), _floats(4))],
    "rotations.binned_angles": [(rotations.binned_angles, _floats(3, 66))],
    "rotations.matrix_to_euler": [(rotations.matrix_to_euler, rotations.euler_to_matrix(*_floats(3, 4) * 30))],
    "sampling.rows_at": [(lambda x: sampling.rows_at(x, jnp.asarray([[0, 2], [1, 1]])), _floats(2, 3, 4))],
    "sampling.grid_sample_2d": [(sampling.grid_sample_2d, _floats(2, 5, 6, 3), _floats(2, 7, 2))],
    "sampling.grid_sample_3d": [(sampling.grid_sample_3d, _floats(2, 4, 5, 6, 3), _floats(2, 7, 3))],
    "tps.fit": _both(lambda d: (tps.fit, _floats(2, 8, d), _floats(2, 8, 3))),
    "tps.evaluate": _both(
        lambda d: (tps.evaluate, tps.Spline(_floats(2, 8, d), _floats(2, 8, 3), _floats(2, d + 1, 3)), _floats(2, 5, d))
    ),
    "tps.warp_points": _both(lambda d: (tps.warp_points, _warp(d), _floats(2, 5, d))),
    "tps.warp_jacobian": _both(lambda d: (tps.warp_jacobian, _warp(d), _floats(2, 5, d))),
    "tps.warp_frames": _both(lambda d: (tps.warp_frames, _warp(d), _floats(2, *_space(d), 3))),
    "volumes.to_image": [(volumes.to_image, _floats(2, 4, 5, 6, 3))],
    "volumes.to_volume": [(lambda x: volumes.to_volume(x, 4), _floats(2, 5, 6, 12))],
    "windows.over_windows": [(lambda x: windows_module.over_windows(jnp.tanh, x, 4, 2, 3), _floats(2, 6, 9, 3))],
}
# Functions of sizes, settings and keys, computed on the host or once; and the choice of kernels.
NOT_OF_ARRAYS = {
    "grids.pixel_centres",
    "grids.corner_aligned",
    "grids.pixel_grid",
    "grids.corner_grid",
    "matrices.hull_area",
    "platform.kernels_for",
    "platform.kernels_wanted",
    "platform.on_cpu",
    "platform.by_platform",
    "resize.cubic_weights",
    "resize.antialias_kernel",
    "tps.control_grid",
    "tps.sample_warp",
    "windows.window_starts",
    "windows.blending_weights",
}


def _public():
    for info in pkgutil.iter_modules(ops.__path__):
        module = importlib.import_module(f"{ops.__name__}.{info.name}")
        for name, value in vars(module).items():
            own = getattr(value, "__module__", None) == module.__name__
            if own and callable(value) and not name.startswith("_") and not inspect.isclass(value):
                yield f"{info.name}.{name}"


def test_every_public_function_has_an_entry():
    assert set(_public()) == {*CASES, *NOT_OF_ARRAYS}


@pytest.mark.parametrize(("name", "index"), [(name, i) for name, cases in CASES.items() for i in range(len(cases))])
def test_jit_vmap_and_grad(name, index):
    function, *arguments = CASES[name][index]

    def total(*arguments):
        return sum(jnp.sum(leaf) for leaf in jax.tree.leaves(function(*arguments)))

    @jax.jit
    def everything(arguments):
        stacked = jax.tree.map(lambda x: jnp.stack([0.9 * x, x]), arguments)
        gradients = jax.grad(total, argnums=tuple(range(len(arguments))))(*arguments)
        return function(*arguments), jax.vmap(function)(*stacked), gradients

    alone, both, gradients = everything(tuple(arguments))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(b[1], a, rtol=1e-4, atol=1e-5), alone, both)
    assert jax.tree.structure(gradients) == jax.tree.structure(tuple(arguments))
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(gradients))

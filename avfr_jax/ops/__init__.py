"""Pure functions of arrays: grids, sampling, keypoints, dense motion, splines, resizing, rotations.

No parameters, no files, no hidden state: everything here can be jitted, vmapped and differentiated.
Coordinates are (x, y[, z]) in [-1, 1]; see `avfr_jax.ops.grids` for where pixels lie.
"""

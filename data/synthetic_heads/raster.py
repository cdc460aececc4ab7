"""Software rasteriser: z-buffered triangles with perspective-correct interpolation, shadow map and shading.

The kernels are compiled with Numba and work on plain arrays. `typing.no_type_check` keeps run-time type
checkers from wrapping a function before Numba compiles it.
"""

import functools
from typing import no_type_check

import numpy as np

from avfr_jax.numba_jit import njit

_jit = functools.partial(njit, fastmath=True, nogil=True)

# Columns of the material table.
SPECULAR, GLOSS, WRAP, SUBSURFACE, SHEEN = range(5)


@_jit
@no_type_check
def rasterise(points, triangles, uv, threshold, alpha, perspective, depth, index, bary):
    """Rasterise triangles into a depth buffer.

    points [v,3] float32: pixel x, pixel y (centre of pixel i at i), and a depth key that grows towards the
    viewer (1/z when `perspective`). threshold [t]: a texel whose `alpha` [h,w] lies below it is transparent.
    depth [h,w] must start at 0 (or below every key), index [h,w] at -1; bary [h,w,2] receives the weights of
    a triangle's first two corners.
    """
    height, width = depth.shape
    for t in range(triangles.shape[0]):
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        ax, ay, az = points[a, 0], points[a, 1], points[a, 2]
        bx, by, bz = points[b, 0], points[b, 1], points[b, 2]
        cx, cy, cz = points[c, 0], points[c, 1], points[c, 2]
        area = (bx - ax) * (cy - ay) - (cx - ax) * (by - ay)
        if abs(area) < 1e-9:
            continue
        x0 = max(0, int(np.ceil(min(ax, bx, cx))))
        x1 = min(width - 1, int(np.floor(max(ax, bx, cx))))
        y0 = max(0, int(np.ceil(min(ay, by, cy))))
        y1 = min(height - 1, int(np.floor(max(ay, by, cy))))
        inverse = 1.0 / area
        limit = threshold[t]
        for y in range(y0, y1 + 1):
            for x in range(x0, x1 + 1):
                wa = ((bx - x) * (cy - y) - (cx - x) * (by - y)) * inverse
                if wa < 0.0:
                    continue
                wb = ((cx - x) * (ay - y) - (ax - x) * (cy - y)) * inverse
                if wb < 0.0:
                    continue
                wc = 1.0 - wa - wb
                if wc < 0.0:
                    continue
                key = wa * az + wb * bz + wc * cz
                if key <= depth[y, x]:
                    continue
                if perspective:
                    wa = wa * az / key
                    wb = wb * bz / key
                    wc = 1.0 - wa - wb
                if limit > 0.0:
                    u = int(wa * uv[a, 0] + wb * uv[b, 0] + wc * uv[c, 0] + 0.5)
                    v = int(wa * uv[a, 1] + wb * uv[b, 1] + wc * uv[c, 1] + 0.5)
                    # A fixed dither over the samples softens the edges of strands.
                    dither = ((x * 7 + y * 13 + (x // 2) * 3) % 8) / 7.0 - 0.5
                    if alpha[v, u] + 0.22 * dither < limit:
                        continue
                depth[y, x] = key
                index[y, x] = t
                bary[y, x, 0] = wa
                bary[y, x, 1] = wb


@_jit
@no_type_check
def vertex_normals(points, triangles, normals):
    """Area-weighted vertex normals of a mesh into `normals` [v,3] (unit length)."""
    normals[:] = 0.0
    for t in range(triangles.shape[0]):
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        ux, uy, uz = points[b, 0] - points[a, 0], points[b, 1] - points[a, 1], points[b, 2] - points[a, 2]
        vx, vy, vz = points[c, 0] - points[a, 0], points[c, 1] - points[a, 1], points[c, 2] - points[a, 2]
        nx, ny, nz = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
        for k in (a, b, c):
            normals[k, 0] += nx
            normals[k, 1] += ny
            normals[k, 2] += nz
    for k in range(points.shape[0]):
        length = np.sqrt(normals[k, 0] ** 2 + normals[k, 1] ** 2 + normals[k, 2] ** 2) + 1e-12
        for i in range(3):
            normals[k, i] /= length


@_jit
@no_type_check
def shade(
    index, bary, triangles, points, normals, uv, tint, material, materials, atlas, eye, lights, ambient, shadow_depth,
    shadow_matrix, shadow_bias, background, out, coverage,
):  # fmt: skip
    """Light every visible sample and average each block of samples into one pixel.

    index [s*h,s*w], bary [s*h,s*w,2]: from `rasterise`. points [v,3] world; eye [3] the camera;
    lights [l,6]: direction towards the light, linear RGB (the first one casts shadows); ambient [2,3]: linear
    RGB from above and from below; shadow_matrix [3,4]: world to shadow-map pixel and depth key;
    background, out [h,w,3] linear RGB; coverage [h,w] in [0,1].
    """
    height, width = out.shape[0], out.shape[1]
    s = index.shape[0] // height
    rows, columns = shadow_depth.shape
    n = np.empty(3, np.float32)
    p = np.empty(3, np.float32)
    albedo = np.empty(3, np.float32)
    for py in range(height):
        for px in range(width):
            red, green, blue, covered = 0.0, 0.0, 0.0, 0
            for sy in range(s):
                for sx in range(s):
                    y, x = py * s + sy, px * s + sx
                    t = index[y, x]
                    if t < 0:
                        continue
                    covered += 1
                    a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
                    wa, wb = bary[y, x, 0], bary[y, x, 1]
                    wc = 1.0 - wa - wb
                    for i in range(3):
                        n[i] = wa * normals[a, i] + wb * normals[b, i] + wc * normals[c, i]
                        p[i] = wa * points[a, i] + wb * points[b, i] + wc * points[c, i]
                    length = 1.0 / (np.sqrt(n[0] * n[0] + n[1] * n[1] + n[2] * n[2]) + 1e-9)
                    vx, vy, vz = eye[0] - p[0], eye[1] - p[1], eye[2] - p[2]
                    vl = 1.0 / (np.sqrt(vx * vx + vy * vy + vz * vz) + 1e-9)
                    vx *= vl
                    vy *= vl
                    vz *= vl
                    facing = (n[0] * vx + n[1] * vy + n[2] * vz) * length
                    if facing < 0.0:  # sheets such as hair are two-sided
                        length = -length
                        facing = -facing
                    nx, ny, nz = n[0] * length, n[1] * length, n[2] * length

                    u = wa * uv[a, 0] + wb * uv[b, 0] + wc * uv[c, 0]
                    v = wa * uv[a, 1] + wb * uv[b, 1] + wc * uv[c, 1]
                    iu, iv = int(u), int(v)
                    fu, fv = u - iu, v - iv
                    for i in range(3):
                        top = atlas[iv, iu, i] * (1.0 - fu) + atlas[iv, iu + 1, i] * fu
                        bottom = atlas[iv + 1, iu, i] * (1.0 - fu) + atlas[iv + 1, iu + 1, i] * fu
                        shade_i = wa * tint[a, i] + wb * tint[b, i] + wc * tint[c, i]
                        albedo[i] = (top * (1.0 - fv) + bottom * fv) * shade_i

                    m = material[t]
                    wrap, sub = materials[m, 2], materials[m, 3]
                    up = 0.5 + 0.5 * ny
                    lr = ambient[1, 0] + (ambient[0, 0] - ambient[1, 0]) * up
                    lg = ambient[1, 1] + (ambient[0, 1] - ambient[1, 1]) * up
                    lb = ambient[1, 2] + (ambient[0, 2] - ambient[1, 2]) * up
                    hr, hg, hb = 0.0, 0.0, 0.0
                    occlusion = wa * tint[a, 0] + wb * tint[b, 0] + wc * tint[c, 0]
                    for k in range(lights.shape[0]):
                        dx, dy, dz = lights[k, 0], lights[k, 1], lights[k, 2]
                        lit = 1.0
                        if k == 0:
                            m0, m1, m2 = shadow_matrix[0], shadow_matrix[1], shadow_matrix[2]
                            qx = m0[0] * p[0] + m0[1] * p[1] + m0[2] * p[2] + m0[3]
                            qy = m1[0] * p[0] + m1[1] * p[1] + m1[2] * p[2] + m1[3]
                            qz = m2[0] * p[0] + m2[1] * p[1] + m2[2] * p[2] + m2[3]
                            ix, iy = int(qx + 0.5), int(qy + 0.5)
                            open_taps, taps = 0, 0
                            for oy in range(-2, 3):
                                for ox in range(-2, 3):
                                    jx, jy = ix + ox, iy + oy
                                    if jx >= 0 and jy >= 0 and jx < columns and jy < rows:
                                        taps += 1
                                        if shadow_depth[jy, jx] <= qz + shadow_bias:
                                            open_taps += 1
                            if taps > 0:
                                lit = open_taps / taps
                        cosine = nx * dx + ny * dy + nz * dz
                        diffuse = max(0.0, (cosine + wrap) / (1.0 + wrap))
                        # Light scattered below the skin reddens the edge of a shadow.
                        soft = max(0.0, (cosine + wrap + sub) / (1.0 + wrap + sub))
                        lit_red = lit + (1.0 - lit) * 0.5 * sub
                        lr += lights[k, 3] * (0.55 * diffuse + 0.45 * soft) * lit_red
                        lg += lights[k, 4] * diffuse * lit
                        lb += lights[k, 5] * diffuse * lit
                        gx, gy, gz = dx + vx, dy + vy, dz + vz
                        gl = 1.0 / (np.sqrt(gx * gx + gy * gy + gz * gz) + 1e-9)
                        half = max(0.0, (nx * gx + ny * gy + nz * gz) * gl)
                        if half > 0.5 and cosine > 0.0:
                            fresnel = 0.35 + 0.65 * (1.0 - facing) ** 3
                            gloss = materials[m, 1]
                            peak = materials[m, 0] * fresnel * np.exp(gloss * (half - 1.0)) * lit * occlusion
                            hr += lights[k, 3] * peak
                            hg += lights[k, 4] * peak
                            hb += lights[k, 5] * peak
                    sheen = materials[m, 4]
                    red += albedo[0] * lr + hr * (1.0 - sheen + sheen * albedo[0] * 4.0)
                    green += albedo[1] * lg + hg * (1.0 - sheen + sheen * albedo[1] * 4.0)
                    blue += albedo[2] * lb + hb * (1.0 - sheen + sheen * albedo[2] * 4.0)
            total = s * s
            share = covered / total
            coverage[py, px] = share
            out[py, px, 0] = red / total + background[py, px, 0] * (1.0 - share)
            out[py, px, 1] = green / total + background[py, px, 1] * (1.0 - share)
            out[py, px, 2] = blue / total + background[py, px, 2] * (1.0 - share)

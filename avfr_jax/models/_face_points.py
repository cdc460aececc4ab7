"""Which of mediapipe's 478 face points play which part, and the rigid part of an average head.

Left and right are the image's for a person facing the camera without mirroring. Orders matter: an outline runs from
its left corner to its right corner along one lip or lid, both corners included.
"""

import numpy as np

# Clockwise from the top of the forehead.
OVAL = (
    10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377,
    152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109,
)  # fmt: skip
# The oval above the jaw: what hair and ears are attached to.
SKULL = OVAL[:9] + OVAL[28:]
JAW = OVAL[9:28]

LIPS_OUTER = (
    61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 185, 40, 39, 37, 0, 267, 269, 270, 409,
)  # fmt: skip
MOUTH_UPPER = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308)
MOUTH_LOWER = (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308)
LEFT_EYE_UPPER = (33, 246, 161, 160, 159, 158, 157, 173, 133)
LEFT_EYE_LOWER = (33, 7, 163, 144, 145, 153, 154, 155, 133)
RIGHT_EYE_UPPER = (362, 398, 384, 385, 386, 387, 388, 466, 263)
RIGHT_EYE_LOWER = (362, 382, 381, 380, 374, 373, 390, 249, 263)
LEFT_IRIS = (468, 469, 470, 471, 472)  # centre first, then four points of its rim
RIGHT_IRIS = (473, 474, 475, 476, 477)
APERTURES = (
    (MOUTH_UPPER, MOUTH_LOWER),
    (LEFT_EYE_UPPER, LEFT_EYE_LOWER),
    (RIGHT_EYE_UPPER, RIGHT_EYE_LOWER),
)
BROWS = (70, 63, 105, 66, 107, 46, 53, 52, 65, 55, 336, 296, 334, 293, 300, 285, 295, 282, 283, 276)
NOSE = (168, 6, 197, 195, 5, 4, 1, 2, 98, 327, 48, 278, 129, 358)
CHEEKS = (50, 280, 205, 425, 187, 411, 117, 346, 36, 266, 212, 432, 151, 9, 69, 299, 18, 200, 199)

# What the spline is tied to.
CONTROL = tuple(
    sorted(
        {
            *OVAL, *LIPS_OUTER, *MOUTH_UPPER, *MOUTH_LOWER, *LEFT_EYE_UPPER, *LEFT_EYE_LOWER,
            *RIGHT_EYE_UPPER, *RIGHT_EYE_LOWER, *BROWS, *NOSE, *CHEEKS,
        }
    )
)  # fmt: skip

# Points that stay put on the skull whatever the face does, and where they lie on an average head seen from the
# front (x right, y down, z away from the camera), the mean of 95 tracked faces, made symmetric and scaled to a
# root-mean-square distance of 1. Only the head's own frame hangs on it, not the shape of any face.
_RIGID_MIDDLE = {
    10: (0.0, -0.762, -0.375),
    151: (0.0, -0.471, -0.389),
    9: (0.0, -0.165, -0.382),
    8: (0.0, -0.018, -0.330),
    168: (0.0, 0.117, -0.296),
    6: (0.0, 0.273, -0.347),
    197: (0.0, 0.420, -0.411),
    195: (0.0, 0.561, -0.486),
    5: (0.0, 0.711, -0.561),
    4: (0.0, 0.875, -0.574),
}
_RIGID_PAIRS = {
    (109, 338): (0.342, -0.759, -0.344),
    (67, 297): (0.633, -0.737, -0.220),
    (103, 332): (0.904, -0.676, -0.004),
    (54, 284): (1.081, -0.564, 0.254),
    (21, 251): (1.192, -0.408, 0.511),
    (127, 356): (1.273, -0.005, 1.013),
    (234, 454): (1.261, 0.236, 1.144),
    (33, 263): (0.812, 0.098, 0.109),
    (133, 362): (0.318, 0.151, 0.020),
    (98, 327): (0.315, 0.963, -0.078),
    (116, 345): (1.150, 0.364, 0.391),
    (129, 358): (0.383, 0.827, -0.037),
}
RIGID = (*_RIGID_MIDDLE, *(i for pair in _RIGID_PAIRS for i in pair))
RIGID_SHAPE = np.array(
    [*_RIGID_MIDDLE.values(), *((s * x, y, z) for x, y, z in _RIGID_PAIRS.values() for s in (-1, 1))], np.float32
)

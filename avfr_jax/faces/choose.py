"""The choice among several faces."""

import logging
from collections.abc import Sequence
from typing import Literal

import numpy as np

from avfr_jax.errors import ConfigError, FaceError
from avfr_jax.faces.face import Face

SMALLEST_FACE = 32  # pixels

Which = Literal["largest", "left", "right", "center"] | int


def choose_face(
    faces: Sequence[Face],
    which: Which | np.integer | None = None,
    *,
    name: str = "the image",
    width: int | None = None,
) -> Face:
    """Choose one of the faces of an image.

    Args:
      faces: detections of `FaceBackend.detect`, the largest first.
      which: "largest"; "left" or "right", the outermost on that side of the image; "center", the nearest to the middle
        of the image (of `width` pixels; without it, of the faces); a number, counted from 0 at the left; None takes
        the largest and logs a warning if there are several.
      name: name of the image in messages, e.g. its file's path.
      width: of the image, in pixels.

    Raises:
      FaceError: no face, no face of that number, or a face smaller than 32 pixels.
      ConfigError: another value of `which`.
    """
    if not faces:
        raise FaceError(f"no face was found in {name}: use a picture or clip that shows one from the front")
    across = sorted(faces, key=lambda face: face.centre[0])
    if which is None or which == "largest":
        face = max(faces, key=lambda face: face.size)
        if which is None and len(faces) > 1:
            logging.getLogger("avfr_jax").warning(
                f'{len(faces)} faces in {name}: the largest is used; choose "left", "right", "center" or a number'
            )
    elif which == "left":
        face = across[0]
    elif which == "right":
        face = across[-1]
    elif which == "center":
        middle = (across[0].centre[0] + across[-1].centre[0]) / 2 if width is None else (width - 1) / 2
        face = min(faces, key=lambda face: abs(face.centre[0] - middle))
    elif isinstance(which, int | np.integer) and not isinstance(which, bool):
        if not 0 <= which < len(across):
            raise FaceError(f"{name} has {len(across)} face(s), numbered from 0 at the left: there is no {which}")
        face = across[which]
    else:
        raise ConfigError(f'a face is chosen by "largest", "left", "right", "center" or a number, not "{which}"')
    if face.size < SMALLEST_FACE:
        raise FaceError(
            f"a face of {face.size:.0f} px in {name}: at least {SMALLEST_FACE} px are needed, so use a larger picture"
        )
    return face

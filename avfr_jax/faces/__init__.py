"""What mediapipe knows of a face: landmarks, mask, head pose; cropping to it, following it, pasting it back.

Images are RGB, uint8, [H, W, 3]; points are 0-based pixel coordinates with pixel centres at whole numbers.
"""

import importlib.util as _util

from avfr_jax.errors import MissingBackendError as _MissingBackendError

if _util.find_spec("cv2") is None:
    raise _MissingBackendError("avfr_jax.faces needs OpenCV, which is not installed: pip install 'avfr-jax[media]'")

from avfr_jax.faces.choose import SMALLEST_FACE, choose_face
from avfr_jax.faces.clip import ClipFaces, track_clip
from avfr_jax.faces.crop import Crop, crop_for_clip, crop_for_face
from avfr_jax.faces.mesh import mesh_image
from avfr_jax.faces.paste import face_mask, paste_back
from avfr_jax.faces.pose import HeadPose, head_pose
from avfr_jax.faces.priors import Face, FacePriors, open_priors
from avfr_jax.faces.smoothing import LandmarkFilter, smooth_landmarks

__all__ = [
    "SMALLEST_FACE",
    "ClipFaces",
    "Crop",
    "Face",
    "FacePriors",
    "HeadPose",
    "LandmarkFilter",
    "choose_face",
    "crop_for_clip",
    "crop_for_face",
    "face_mask",
    "head_pose",
    "mesh_image",
    "open_priors",
    "paste_back",
    "smooth_landmarks",
    "track_clip",
]

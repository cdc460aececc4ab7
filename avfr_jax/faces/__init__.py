"""Faces in images: landmarks, masks, head pose; tracking, cropping and pasting back.

Images are RGB, uint8, [H, W, 3]; points are 0-based pixel coordinates with pixel centres at whole numbers. OpenCV and
mediapipe are imported on first use.
"""

from typing import TYPE_CHECKING

from avfr_jax.packages import lazy_names

if TYPE_CHECKING:
    from avfr_jax.faces.analyser import FaceAnalyser, FaceFacts
    from avfr_jax.faces.backend import open_face_backend
    from avfr_jax.faces.choose import SMALLEST_FACE, choose_face
    from avfr_jax.faces.crop import Crop, crop_for_clip, crop_for_face, face_boxes, share_in_view
    from avfr_jax.faces.crop_follower import CropFollower
    from avfr_jax.faces.crop_path import faces_outside, following_crops, holds
    from avfr_jax.faces.face import Face, FaceBackend
    from avfr_jax.faces.fill import apply_filled
    from avfr_jax.faces.mesh import mesh_image, structural_prior
    from avfr_jax.faces.paste import open_sides, paste_back
    from avfr_jax.faces.pose import HeadPose, head_pose
    from avfr_jax.faces.pose68 import head_pose68
    from avfr_jax.faces.seam import SeamAligner
    from avfr_jax.faces.smoothing import LandmarkFilter

__all__ = [
    "SMALLEST_FACE",
    "Crop",
    "CropFollower",
    "Face",
    "FaceAnalyser",
    "FaceBackend",
    "FaceFacts",
    "HeadPose",
    "LandmarkFilter",
    "SeamAligner",
    "apply_filled",
    "choose_face",
    "crop_for_clip",
    "crop_for_face",
    "face_boxes",
    "faces_outside",
    "following_crops",
    "head_pose",
    "head_pose68",
    "holds",
    "mesh_image",
    "open_face_backend",
    "open_sides",
    "paste_back",
    "share_in_view",
    "structural_prior",
]

__getattr__ = lazy_names(
    __name__,
    {
        "analyser": ("FaceAnalyser", "FaceFacts"),
        "backend": ("open_face_backend",),
        "choose": ("SMALLEST_FACE", "choose_face"),
        "face": ("Face", "FaceBackend"),
        "crop": ("Crop", "crop_for_clip", "crop_for_face", "face_boxes", "share_in_view"),
        "crop_follower": ("CropFollower",),
        "crop_path": ("faces_outside", "following_crops", "holds"),
        "fill": ("apply_filled",),
        "mesh": ("mesh_image", "structural_prior"),
        "paste": ("open_sides", "paste_back"),
        "pose": ("HeadPose", "head_pose"),
        "pose68": ("head_pose68",),
        "seam": ("SeamAligner",),
        "smoothing": ("LandmarkFilter",),
    },
)

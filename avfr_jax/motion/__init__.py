"""Motion of a face: one pytree type a model family behind one protocol, and the `MotionSpec` that describes it."""

from avfr_jax.motion.base import Component, Keep, Motion, MotionMode, MotionSpec, concatenate
from avfr_jax.motion.face_mesh import FaceMesh, FaceMeshSpec
from avfr_jax.motion.head import HeadMotion, HeadSpec
from avfr_jax.motion.keypoints import Keypoints, KeypointSpec, movement_scale, relative_motion
from avfr_jax.motion.mesh_keypoints import MeshKeypoints, MeshKeypointSpec
from avfr_jax.motion.view import Orbit, View, ViewMode

__all__ = [
    "Component",
    "FaceMesh",
    "FaceMeshSpec",
    "HeadMotion",
    "HeadSpec",
    "Keep",
    "KeypointSpec",
    "Keypoints",
    "MeshKeypointSpec",
    "MeshKeypoints",
    "Motion",
    "MotionMode",
    "MotionSpec",
    "Orbit",
    "View",
    "ViewMode",
    "concatenate",
    "movement_scale",
    "relative_motion",
]

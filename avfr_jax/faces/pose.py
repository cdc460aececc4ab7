"""Head pose from the face mesh: perspective-n-point on an average face."""

import dataclasses

import cv2
import numpy as np

from avfr_jax.errors import FaceError
from avfr_jax.landmarks import RIGID, canonical_face
from avfr_jax.typing import Float


@dataclasses.dataclass(frozen=True, eq=False)
class HeadPose:
    """Position and orientation of a head.

    yaw, pitch, roll: degrees. yaw > 0: to the image's right (the subject's own left); pitch > 0: up; roll > 0:
        clockwise in the image.
    rotation: float32 [3, 3], of the canonical face (x to the image's right, y down, z away from the camera):
        R_x(−pitch) · R_y(−yaw) · R_z(roll), the order of `avfr_jax.ops.rotations`.
    translation: float32 [3], of the point between the eyes, in centimetres for a face of average size, in the
        camera's axes, which are the canonical face's.
    """

    yaw: float
    pitch: float
    roll: float
    rotation: Float[np.ndarray, "3 3"]
    translation: Float[np.ndarray, "3"]


def rotation_from_angles(yaw: float, pitch: float, roll: float) -> Float[np.ndarray, "3 3"]:
    """The rotation matrix (float64) of angles in degrees, with `HeadPose`'s signs and order."""
    x, y, z = np.radians([-pitch, -yaw, roll])
    about_x = np.array([[1, 0, 0], [0, np.cos(x), -np.sin(x)], [0, np.sin(x), np.cos(x)]])
    about_y = np.array([[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]])
    about_z = np.array([[np.cos(z), -np.sin(z), 0], [np.sin(z), np.cos(z), 0], [0, 0, 1]])
    return np.asarray(about_x @ about_y @ about_z)


def angles_from_rotation(rotation: Float[np.ndarray, "3 3"]) -> tuple[float, float, float]:
    """(yaw, pitch, roll) in degrees, the inverse of `rotation_from_angles`; yaw in [-90, 90]."""
    yaw = -np.arcsin(np.clip(rotation[0, 2], -1, 1))
    pitch = -np.arctan2(-rotation[1, 2], rotation[2, 2])
    roll = np.arctan2(-rotation[0, 1], rotation[0, 0])
    return float(np.degrees(yaw)), float(np.degrees(pitch)), float(np.degrees(roll))


def camera_matrix(width: int, height: int, focal: float = 1.0) -> Float[np.ndarray, "3 3"]:
    """A pinhole camera with its axis through the image's middle and a focal length in longer sides (1 is 53°)."""
    focal *= max(width, height)
    return np.array([[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1]], np.float64)


def solve_pose(
    model: Float[np.ndarray, "k 3"], points: Float[np.ndarray, "k 2"], camera: Float[np.ndarray, "3 3"]
) -> HeadPose:
    """The head pose with which points of a head appear at points of an image: SQPnP (Terzakis and Lourakis, ECCV 2020),
    refined by Levenberg-Marquardt.

    Args:
      model: points in the head's own frame, in centimetres, float64.
      points: (x, y) of the same points in pixels, float64, finite.
      camera: see `camera_matrix`.
    """
    undistorted = np.zeros(4)
    _, turn, shift = cv2.solvePnP(model, points, camera, undistorted, flags=cv2.SOLVEPNP_SQPNP)
    turn, shift = cv2.solvePnPRefineLM(model, points, camera, undistorted, turn, shift)
    rotation = cv2.Rodrigues(turn)[0]
    yaw, pitch, roll = angles_from_rotation(rotation)
    return HeadPose(yaw, pitch, roll, rotation.astype(np.float32), shift.reshape(3).astype(np.float32))


def head_pose(landmarks: Float[np.ndarray, "478 3"], width: int, height: int, focal: float = 1.0) -> HeadPose:
    """The head pose of landmarks in pixels of an image of this size.

    Solved (`solve_pose`) on the points that move with the skull (`landmarks.RIGID`). The focal length is in longer
    sides of the image; in crops around a face 1 measures about a fifth too little of a turn (see
    `faces.mesh_head.FOCAL`).

    Angles are relative to the camera's axis: for the pose as it appears, give landmarks in pixels of a crop around the
    face (`Crop.to_crop`). Raises FaceError for landmarks that are not finite.
    """
    points = np.ascontiguousarray(landmarks[list(RIGID), :2], np.float64)
    if not np.isfinite(points).all():
        raise FaceError("a head pose needs finite landmarks; these are of a frame without a face")
    model = canonical_face()[list(RIGID)].astype(np.float64)
    return solve_pose(model, points, camera_matrix(width, height, focal))

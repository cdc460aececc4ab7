"""Training of `mesh-fomm`: FOMM's, with the face mesh beside the pixels.

Batches hold `source_landmarks` and `driving_landmarks` `[N, 478, 3]`, (x, y) in [-1, 1] by pixel centres, NaN without a
face, and behind the frames' colours the mesh image and the person mask.
"""

from collections.abc import Mapping
from typing import Any

from avfr_jax.models import mesh_fomm
from avfr_jax.motion import FaceMesh, Keypoints, MeshKeypoints
from avfr_jax.training.composed import Mode
from avfr_jax.training.forward import Forward
from avfr_jax.training.objective import Variables
from avfr_jax.training.objectives import animation


def forward(
    config: mesh_fomm.MeshFommConfig, variables: Variables, batch: Mapping[str, Any], random: Any, mode: Mode
) -> Forward:
    """See `Task.forward`."""
    frames = [batch[name][..., :3] for name in ("source", "driving")]
    landmarks = [batch[f"{name}_landmarks"] for name in ("source", "driving")]
    module = mesh_fomm.generator(config, axis_name=mode.axis_name, dtype=mode.dtype)

    def generate(source: Keypoints, driving: Keypoints) -> tuple[Any, Any]:
        motion = [
            MeshKeypoints(learned, FaceMesh.from_landmarks(face))
            for learned, face in zip((source, driving), landmarks, strict=True)
        ]
        given = (frames[0], landmarks[0], batch["source"][..., 4], *motion)
        method = mesh_fomm.encode_and_animate
        return mode.apply(module, variables["generator"], *given, method=method, remat=mode.remat)

    detector = mesh_fomm.keypoint_detector(config, axis_name=mode.axis_name, dtype=mode.dtype)
    one, two = (mesh_fomm.detector_input(*pair, config) for pair in zip(frames, landmarks, strict=True))
    result, generated = animation.animate(detector, generate, variables["keypoint_detector"], (one, two), random, mode)
    outputs = {"motion": generated.motion, "warped": generated.warped, "layered": generated.layered}
    return result._replace(target=frames[1], batch=batch, outputs=outputs)


TASK = animation.animation_task(
    forward,
    init=mesh_fomm.init,
    discriminator=mesh_fomm.discriminator,
    example_batch=lambda config, size, landmarks: animation.example_batch(config, 5, size, True),
    provides=lambda config: ("keypoints", "transformed", "jacobians", "warped"),
)

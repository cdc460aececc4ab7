"""`mesh-fomm` behind the interface that every model shares."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from avfr_jax.models import landmark_warp, mesh_fomm
from avfr_jax.models.base import Encoded, Explanation, FindPriors, MotionMode, Priors, face_priors, person_mask
from avfr_jax.models.mesh_fomm import MeshFommConfig
from avfr_jax.nn.inference import quick_convolutions
from avfr_jax.ops.keypoints import Keypoints, movement_scale, relative_motion


class MeshFommAnimator:
    """A `mesh-fomm` with weights; see `Animator`.

    Keypoints are the learned ones (`value`, `jacobian`) and the mesh's pose and shape (`rotation`, `translation`,
    `deformation`). The mesh comes from the priors, which are found by a face backend where they are not given.
    """

    family = "mesh-fomm"
    needs = frozenset({"priors"})
    batch_size = 4

    def __init__(
        self, config: MeshFommConfig, variables: Any, find_priors: FindPriors | None = None, name: str = "mesh-fomm"
    ) -> None:
        self.config, self.name, self._find = config, name, find_priors
        self.image_size, self.num_keypoints = config.image_size, config.num_keypoints
        self._weights = jax.tree.map(jnp.asarray, {k: variables[k] for k in ("keypoint_detector", "generator")})

    def keypoints(self, frames: Any, priors: Priors | None = None) -> Keypoints:
        """See `Animator.keypoints`; FaceError where a frame shows no face and no priors were given."""
        landmarks = face_priors(frames, priors, self._find).landmarks
        return _detect(self.config, self._weights, jnp.asarray(frames, jnp.float32), jnp.asarray(landmarks))

    def encode_source(self, source: Any, source_keypoints: Keypoints, priors: Priors | None = None) -> Encoded:
        """See `Animator.encode_source`."""
        image = jnp.asarray(source, jnp.float32)
        mask = person_mask(image, priors, self._find)[None]
        return Encoded(image, _encode(self.config, self._weights, image[None], mask, source_keypoints))

    def animate(self, source: Any, source_keypoints: Keypoints, driving_keypoints: Keypoints, mel: Any = None) -> Any:
        """See `Animator.animate`."""
        encoded = source if isinstance(source, Encoded) else self.encode_source(source, source_keypoints)
        return _animate(self.config, self._weights, encoded.content, source_keypoints, driving_keypoints)

    def explain(
        self, source: Encoded, source_keypoints: Keypoints, driving_keypoints: Keypoints, mel: Any = None
    ) -> Explanation:
        """See `Animator.explain`; the displacement is that of the dense warp, which shares the frame with two other
        pictures."""
        out = _generate(self.config, self._weights, source.content, source_keypoints, driving_keypoints)
        return Explanation(out.prediction, out.motion.displacement, out.motion.occlusion_map)

    def retarget(
        self,
        source: Keypoints,
        driving: Keypoints,
        initial: Keypoints,
        *,
        mode: MotionMode = "relative",
        adapt_scale: bool = True,
    ) -> Keypoints:
        """See `Animator.retarget`; the learned keypoints move as FOMM's do, the mesh as `landmark-warp`'s does."""
        mesh = landmark_warp.retarget(source, driving, initial, mode=mode, adapt_scale=adapt_scale)
        if mode == "absolute":
            return mesh_fomm.with_mesh(driving, mesh)
        scale = 1.0
        if adapt_scale:
            ours, theirs = (Keypoints(landmark_warp.mesh_of(k)) for k in (source, initial))
            scale = movement_scale(ours, theirs)
        mine, moving, first = (Keypoints(k.value, k.jacobian) for k in (source, driving, initial))
        return mesh_fomm.with_mesh(relative_motion(mine, moving, first, scale), mesh)


@partial(jax.jit, static_argnums=0)
def _detect(config: MeshFommConfig, weights: Any, frames: Any, landmarks: Any) -> Keypoints:
    inputs = mesh_fomm.detector_input(frames, landmarks, config)
    with quick_convolutions():
        learned, _ = mesh_fomm.keypoint_detector(config).apply(weights["keypoint_detector"], inputs)
    return mesh_fomm.with_mesh(learned, landmark_warp.decompose(landmarks))


@partial(jax.jit, static_argnums=0)
def _encode(config: MeshFommConfig, weights: Any, image: Any, mask: Any, keypoints: Keypoints) -> Any:
    module = mesh_fomm.generator(config)
    return module.apply(weights["generator"], image, landmark_warp.mesh_of(keypoints), mask, method=module.encode)


@partial(jax.jit, static_argnums=0)
def _generate(config: MeshFommConfig, weights: Any, encoded: Any, source: Keypoints, driving: Keypoints) -> Any:
    with quick_convolutions():
        return mesh_fomm.generator(config).apply(weights["generator"], encoded, source, driving)


@partial(jax.jit, static_argnums=0)
def _animate(config: MeshFommConfig, weights: Any, encoded: Any, source: Keypoints, driving: Keypoints) -> Any:
    return _generate(config, weights, encoded, source, driving).prediction

"""A model without networks: the grey level of its frames is that of motion and audio."""

import numpy as np

from avfr_jax.landmarks import canonical_face
from avfr_jax.models.base import Capabilities, EncodedSource, Explanation, Priors
from avfr_jax.motion import FaceMesh, FaceMeshSpec


class Stub:
    """Adds mean displacement and mel level to the source."""

    name, family, fingerprint = "stub", "stub", b"stub\0\0\0\0"
    capabilities = Capabilities(landmarks=True, audio=True, mesh_driven=True)
    motion_spec = FaceMeshSpec()
    image_size, batch_size = 32, 4

    def keypoints(self, frames, priors: Priors | None = None) -> FaceMesh:
        priors.require()
        assert len(priors.landmarks) == len(frames)
        return FaceMesh.from_landmarks(priors.landmarks)

    def encode_source(self, source, source_keypoints, priors=None) -> EncodedSource:
        return EncodedSource(source, None)

    def animate(self, source, source_keypoints, driving_keypoints, mel=None):
        assert len(driving_keypoints) == self.batch_size
        return self.explain(source, source_keypoints, driving_keypoints, mel).frames

    def explain(self, source, source_keypoints, driving_keypoints, mel=None) -> Explanation:
        moved = np.asarray(driving_keypoints.positions - source_keypoints.positions).mean(1)
        level = moved.sum(-1) + (0 if mel is None else 0.05 * (mel.mean((1, 2)) + 4))
        frames = np.clip(source.image + level[:, None, None, None], 0, 1)
        return Explanation(frames, np.zeros((len(frames), 8, 8, 2)))


class PixelStub(Stub):
    """A stub that takes pixels alone."""

    capabilities = Capabilities()

    def keypoints(self, frames, priors=None) -> FaceMesh:
        assert priors is None
        return FaceMesh.from_landmarks(canonical_face() / 20 + frames.mean((1, 2, 3))[:, None, None])

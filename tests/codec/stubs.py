"""Stand-ins for models: what they render shows what was received."""

import numpy as np

from avfr_jax.models.base import Capabilities, EncodedSource
from avfr_jax.motion import HeadMotion, HeadSpec, Keypoints, KeypointSpec
from avfr_jax.ops.rotations import euler_to_matrix

SIZE = 32


class Mover:
    """Its first keypoint is a frame's mean brightness; it renders the source with that brightness."""

    name, family, fingerprint, capabilities = "mover", "stub", b"mover001", Capabilities()
    image_size, batch_size, motion_spec = SIZE, 4, KeypointSpec(2, jacobians=False)

    def keypoints(self, frames, priors=None):
        level = np.asarray(frames).mean((1, 2, 3))
        return Keypoints(np.stack([np.stack([level, -level], -1), np.stack([level / 2, level / 3], -1)], 1))

    def encode_source(self, source, keypoints, priors=None):
        return EncodedSource(np.asarray(source), ())

    def animate(self, source, source_keypoints, driving, mel=None):
        change = np.asarray(driving.value)[:, 0, 0] - np.asarray(source_keypoints.value)[0, 0, 0]
        return source.image[None] + change[:, None, None, None]


class HeadMover(Mover):
    """Roll, from 90 to 270 degrees, is a frame's brightness; canonical keypoints are the source's corner pixels."""

    name, fingerprint, motion_spec = "head-mover", b"headmove", HeadSpec(2)

    def keypoints(self, frames, priors=None):
        frames = np.asarray(frames, np.float32)
        roll = 90 + 180 * frames.mean((1, 2, 3))
        none = np.zeros(len(roll), np.float32)
        small = np.zeros((len(roll), 2, 3), np.float32)
        canonical = frames[:, [0, -1], [0, -1]]
        return HeadMotion(canonical, np.asarray(euler_to_matrix(none, none, roll)), small[:, 0] + 0.1, small - 0.01)

    def animate(self, source, source_keypoints, driving, mel=None):
        numbers = [np.asarray(self.motion_spec.flatten(motion)) for motion in (source_keypoints, driving)]
        np.testing.assert_allclose(driving.canonical, np.repeat(source_keypoints.canonical, len(driving), 0))
        change = ((numbers[1][:, 2] - numbers[0][0, 2] + 180) % 360 - 180) / 180
        return source.image[None] + change[:, None, None, None]


def grey_frames(count: int = 60, size: int = SIZE) -> np.ndarray:
    """Grey frames whose brightness goes up and down."""
    level = 120 + 60 * np.sin(np.arange(count) / 6)
    return np.broadcast_to(level[:, None, None, None], (count, size, size, 3)).astype(np.uint8)


class CountedHead(HeadMover):
    """The first keypoints alone are needed: the brighter a frame, the more of them its expression moves. It renders the
    share of keypoints in use."""

    name, fingerprint, motion_spec = "counted-head", b"counted1", HeadSpec(8, 2)

    def keypoints(self, frames, priors=None):
        heads = super().keypoints(frames)
        moved = 3 + np.round(4 * np.asarray(frames).mean((1, 2, 3)))  # 3 to 7
        size = np.where(np.arange(8) < moved[:, None], 0.1, 0.001).astype(np.float32)
        canonical = np.zeros((len(size), 8, 3), np.float32)
        return HeadMotion(canonical, heads.rotation, heads.translation, size[..., None] * np.float32([0, 1, 0]))

    def animate(self, source, source_keypoints, driving, mel=None):
        used = np.asarray(driving.in_use)
        assert not np.asarray(driving.expression)[~used].any()
        return np.broadcast_to(used.mean(1)[:, None, None, None], (len(used), SIZE, SIZE, 3))

"""Heads with canonical keypoints behind the codec: a face-vid2vid with random weights from frames to frames, and a
stream as the driver of another picture."""

import dataclasses

import numpy as np
import pytest

from avfr_jax.codec.container import read_stream, write_stream
from avfr_jax.codec.files import open_stream
from avfr_jax.codec.receiver import Receiver
from avfr_jax.codec.sender import Sender, send_all
from avfr_jax.codec.settings import FOR_FILES
from avfr_jax.codec.stream_source import StreamSource
from avfr_jax.errors import ConfigError
from avfr_jax.models import face_vid2vid
from avfr_jax.models.face_vid2vid_animator import FaceVid2VidAnimator
from avfr_jax.reenact import Reenactor
from tests.codec.stubs import CountedHead, HeadMover, grey_frames
from tests.media_fixtures import astronaut, moved
from tests.models.test_face_vid2vid import small
from tests.models.test_fomm import weights

COUNT, SIZE = 4, 32
CONFIG = small(num_keypoints=8, keypoint_dropout=0.75, spectral=False)


@pytest.fixture(scope="module")
def model():
    return FaceVid2VidAnimator(CONFIG, weights(CONFIG, init=face_vid2vid.init), name="head")


@pytest.fixture(scope="module")
def stream(model, tmp_path_factory):
    """A file of which no frame has all keypoints."""
    frames = [moved(astronaut(SIZE), 3 * i) for i in range(COUNT)]
    first = model.driving_keypoints(frames[0][None].astype(np.float32) / 255).expression[0]
    threshold = 1 + 128 * float(np.linalg.norm(first[5:], axis=-1).max())
    sender = Sender(model, dataclasses.replace(FOR_FILES, keypoint_threshold=threshold))
    path = tmp_path_factory.mktemp("stream") / "head.avfr"
    with open(path, "wb") as file:
        write_stream(file, send_all(sender, ((frame, None) for frame in frames)), lambda: COUNT)
    return path


def test_the_receiver_detects_the_canonical_keypoints_in_the_decoded_picture(model, stream):
    end, posed = Receiver(model), Receiver(rendering=False)
    for packet in read_stream(stream.read_bytes()):
        end.push(packet)
        posed.push(packet)
    shown = np.stack(list(end.render(COUNT)))
    pivot = end._references.kept[0]
    own = model.keypoints(pivot.image[None].astype(np.float32) / 255)
    assert np.ptp(np.asarray(own.canonical)) > 0
    np.testing.assert_allclose(pivot.motion.canonical, own.canonical, atol=1e-5)
    poses = list(posed.poses(COUNT))
    assert all(2 <= pose["count"][0] < 8 for pose in poses)
    numbers = np.stack([np.concatenate([pose[c.name].ravel() for c in model.motion_spec.components]) for pose in poses])
    heads = model.motion_spec.unflatten(numbers, own)
    expected = np.asarray(model.animate(pivot.encoded, pivot.motion, heads))
    np.testing.assert_allclose(shown / 255, np.clip(expected, 0, 1), atol=1 / 255)
    whole = np.asarray(
        model.animate(pivot.encoded, pivot.motion, dataclasses.replace(heads, count=np.full(COUNT, 8.0)))
    )
    assert np.abs(whole - expected).max() > 0  # what is left out has a part in the frame


def test_a_stream_drives_another_picture_with_that_pictures_canonical_keypoints(tmp_path):
    """`HeadMover.animate` checks them, and shows the change of the roll as brightness."""
    clip, path = grey_frames(12), tmp_path / "head.avfr"
    with open(path, "wb") as file:
        write_stream(file, send_all(Sender(HeadMover(), FOR_FILES), ((frame, None) for frame in clip)), lambda: 12)
    picture = np.full((SIZE, SIZE, 3), 50, np.uint8)
    frames = np.stack(list(Reenactor(HeadMover(), crop="none", best_frame="first").reenact(picture, path)))
    change = clip.astype(int) - clip[0]
    assert np.ptp(change) > 40
    assert np.abs(frames - (50.0 + change)).max() <= 3


def test_another_model_is_refused(stream):
    header = next(open_stream(stream).packets())
    with pytest.raises(ConfigError, match=r"made with head of fingerprint .* the model counted-head here"):
        Receiver(CountedHead()).push(header)
    with pytest.raises(ConfigError, match="does not hold what counted-head needs of the driver; drive head with it"):
        StreamSource(stream, CountedHead())

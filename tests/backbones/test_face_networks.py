"""Face descriptor and 68 landmarks: against the numbers of the reference program, through the import that users run."""

import jax
import numpy as np
import pytest

from avfr_jax.backbones.face_recognition import load_face_recognition
from avfr_jax.backbones.landmarks68 import load_landmarks68
from avfr_jax.convert.face_api import NETWORKS, import_face_api

pytestmark = pytest.mark.shared


@pytest.fixture(scope="module", autouse=True)
def home(tmp_path_factory, shared_dir):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AVFR_HOME", str(tmp_path_factory.mktemp("home")))
        for name, (stem, _) in NETWORKS.items():
            import_face_api(name, shared_dir / "weights" / f"{stem}-weights_manifest.json")
        yield


@pytest.fixture(scope="module")
def numbers(shared_dir):
    return np.load(shared_dir / "weights" / "face_api_io.npz")


def _run(network, pixels):
    return np.asarray(jax.jit(lambda n, x: n(x))(network, pixels.astype(np.float32) / 255))


def test_descriptors(numbers):
    network = load_face_recognition()
    got = _run(network, numbers["chips_uint8_NHWC"])
    np.testing.assert_allclose(got, numbers["descriptors_N128"], atol=1e-5)
    assert "face_recognition_model-weights_manifest.json (SHA-256" in network.description


def test_landmarks(numbers):
    got = _run(load_landmarks68(), numbers["landmark_input_uint8_NHWC"])
    np.testing.assert_allclose(got, numbers["landmarks_raw_N68_2"], atol=1e-5)

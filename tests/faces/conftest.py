"""One public-domain portrait, and one backend for all tests of faces."""

from collections.abc import Iterator

import cv2
import numpy as np
import pytest
import skimage.data

from avfr_jax.faces import Face, FaceBackend, open_face_backend


@pytest.fixture(scope="session")
def portrait() -> np.ndarray:
    """Eileen Collins, NASA, public domain: 512x512, a face of about 110 px at (225, 123)."""
    return skimage.data.astronaut()


@pytest.fixture(scope="session")
def opened_priors() -> Iterator[FaceBackend]:
    with open_face_backend() as priors:
        yield priors


@pytest.fixture
def priors(opened_priors: FaceBackend) -> FaceBackend:
    opened_priors.reset()
    return opened_priors


@pytest.fixture(scope="session")
def portrait_face(portrait: np.ndarray, opened_priors: FaceBackend) -> Face:
    return opened_priors.detect(portrait)[0]


@pytest.fixture(scope="session")
def two_people(portrait: np.ndarray) -> np.ndarray:
    """The portrait on the left, and three quarters as large and mirrored on the right."""
    second = cv2.resize(portrait[:, ::-1], (384, 384), interpolation=cv2.INTER_AREA)
    second = cv2.copyMakeBorder(second, 0, 128, 0, 0, cv2.BORDER_REPLICATE)
    return np.concatenate([portrait, second], 1)

"""Background embeddings of synthetic rooms with a person (the astronaut's portrait) moving in front."""

import numpy as np
import pytest

from avfr_jax.codec.background import Background, BackgroundEmbedder
from avfr_jax.codec.bitstream import Kind
from avfr_jax.codec.mesh_basis import shipped
from avfr_jax.codec.pivots import PivotSettings
from avfr_jax.codec.sender import Sender
from avfr_jax.codec.settings import SenderSettings
from avfr_jax.errors import ConfigError, MissingBackendError
from avfr_jax.landmarks import normalise_landmarks
from tests.codec.stubs import Mover
from tests.media_fixtures import astronaut

SIZE = 128


@pytest.fixture(scope="module")
def embedder() -> BackgroundEmbedder:
    try:
        return BackgroundEmbedder()
    except MissingBackendError as error:
        pytest.skip(str(error))


def _room(seed: int, shift: int = 0) -> np.ndarray:
    """A wall with a few panels of other colours."""
    random = np.random.default_rng(seed)
    room = np.full((SIZE, 2 * SIZE, 3), random.integers(80, 200, 3), np.uint8)
    for x in range(0, 2 * SIZE, 24):
        y = int(random.integers(0, SIZE - 40))
        room[y : y + 40, x : x + 14] = random.integers(0, 256, 3)
    return room[:, shift : shift + SIZE]


def _frame(room: np.ndarray, x: int) -> np.ndarray:
    """The portrait, as large as half the frame, in front of a room."""
    portrait = astronaut(SIZE)[:96, 30:94][::1]
    rows, columns = np.ogrid[:96, :64]
    oval = ((rows - 52) / 48) ** 2 + ((columns - 32) / 30) ** 2 < 1
    frame = room.copy()
    place = frame[SIZE - 96 :, x : x + 64]
    place[oval] = portrait[oval]
    return frame


def test_a_person_who_moves_is_not_another_background(embedder):
    first = embedder(_frame(_room(0), 28))
    assert first.features.shape[0] == first.seen.shape[0] == 64
    assert first.distance(first) == 0
    moved = [first.distance(embedder(_frame(_room(0), x))) for x in (24, 32, 38)]
    others = [first.distance(embedder(_frame(_room(seed), 28))) for seed in (1, 2, 3)]
    turned = first.distance(embedder(_frame(_room(0, shift=16), 28)))
    assert max(moved) < 0.05 < min(others)
    assert turned > 0.05


def test_distance_is_zero_without_common_background():
    a, b = (Background(np.full((64, 3), v, np.float32), np.full(64, 0.2, np.float32)) for v in (0.0, 9.0))
    assert a.distance(b) == 0


def test_another_room_needs_a_pivot_and_a_return_does_not(embedder):
    class Portrait(Mover):
        image_size = SIZE

    face = normalise_landmarks(shipped().mean, 256, 256)
    settings = SenderSettings(pivots=PivotSettings(min_interval=0.2, check_interval=4), refresh=12)
    sender = Sender(Portrait(), settings, background=embedder)
    taken = []
    for i in range(72):
        frame = _frame(_room(0 if i < 24 or i >= 48 else 1), 28 + i % 8)
        taken += [(i, p.pivot) for p in sender.push(frame, face) if p.kind is Kind.PIVOT and p.payload[0] == 0]
    assert [number for _, number in taken] == [0, 1]
    assert 24 <= taken[1][0] < 28
    assert sender._motion.pivot == 0


def test_unknown_networks_are_refused():
    with pytest.raises(ConfigError, match="embedded by face or vgg19"):
        BackgroundEmbedder("resnet")

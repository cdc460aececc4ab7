import numpy as np
import pytest

from avfr_jax.codec.byte_tables import ByteTables, half_bytes, half_numbers
from avfr_jax.errors import ConfigError


def _frames(count: int, seed: int, numbers: int = 66) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.05, (count, numbers))


def test_half_precision_bytes_are_two_a_number_the_lower_first():
    # 1.5 is 0x3E00 and -2 is 0xC000; what is too large becomes the largest half, 65504 = 0x7BFF.
    np.testing.assert_array_equal(half_bytes([[1.5, -2.0, 1e9]]), [[0x00, 0x3E, 0x00, 0xC0, 0xFF, 0x7B]])
    numbers = _frames(5, 0)
    np.testing.assert_array_equal(half_numbers(half_bytes(numbers)), numbers.astype(np.float16))
    with pytest.raises(ConfigError, match="finite"):
        half_bytes([[np.nan]])


def test_frames_decode_and_cost_their_entropy_under_the_tables():
    tables, tested = ByteTables.fit(half_bytes(_frames(2000, 1))), half_bytes(_frames(300, 2))
    assert (tables.frequencies.sum(1) == 1 << 16).all()
    coded = [tables.encode(frame) for frame in tested]
    for frame, data in zip(tested, coded, strict=True):
        np.testing.assert_array_equal(tables.decode(data, 132), frame)
    shares = tables.frequencies[np.arange(132), tested] / (1 << 16)
    entropy = -np.log2(shares).sum(1) / 8
    sizes = np.array([len(data) for data in coded])
    assert np.abs(sizes - entropy).max() < 1.5  # whole bytes, of which final zeros are not sent
    assert 0 < (sizes - entropy).mean() < 0.6
    assert sizes.mean() < 120  # of 132: the upper bytes of small numbers have few values


def test_a_table_holds_the_frequencies_of_its_position_and_a_byte_that_was_never_seen():
    frames = np.zeros((1000, 2), np.uint8)
    frames[:500, 1] = 7
    tables = ByteTables.fit(frames)
    assert tables.frequencies[0, 0] > 0.78 * (1 << 16)  # (1000 + 1) / (1000 + 256)
    assert abs(tables.frequencies[1, 0] - tables.frequencies[1, 7]) <= 256
    rare = np.array([255, 1], np.uint8)
    np.testing.assert_array_equal(tables.decode(tables.encode(rare), 2), rare)
    assert len(tables.encode(frames[0])) == 1
    assert len(tables.encode(rare)) > 1


def test_the_first_bytes_of_a_frame_are_coded_with_the_first_tables():
    frames = half_bytes(_frames(100, 3))
    tables = ByteTables.fit(frames)
    for count in (0, 1, 42, 132):
        np.testing.assert_array_equal(tables.decode(tables.encode(frames[0][:count]), count), frames[0][:count])
    for use in (lambda: tables.encode(np.zeros(133, np.uint8)), lambda: tables.decode(b"", 133)):
        with pytest.raises(ConfigError, match="132 bytes"):
            use()
    with pytest.raises(ConfigError, match="one frame"):
        ByteTables.fit(frames[:0])


def test_any_bytes_decode():
    tables = ByteTables.fit(half_bytes(_frames(50, 4)))
    for seed in range(20):
        data = np.random.default_rng(seed).bytes(seed * 10)
        assert tables.decode(data, 132).shape == (132,)
    assert tables.decode(b"\xff" * 300, 132).shape == (132,)

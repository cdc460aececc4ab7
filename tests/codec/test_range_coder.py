import hashlib

import numpy as np
import pytest

from avfr_jax.codec.range_coder import HALF, Reader, Writer, get_bit, get_even, put_bit, put_even
from avfr_jax.codec.symbols import Contexts, get_vector, put_vector


def _contexts(count: int = 1):
    return np.full(count, HALF, np.uint16), np.zeros(count, np.uint8)


def _written(bits) -> bytes:
    writer, (probabilities, seen) = Writer(), _contexts()
    writer.room(8 * len(bits) + 8)
    for i, bit in enumerate(bits):
        put_bit(writer.registers, writer.out, probabilities, seen, 0, int(bit))
        if i % 7 == 0:
            put_even(writer.registers, writer.out, i % 32, 5)
    return writer.finish()


@pytest.mark.parametrize("chance", [0.5, 0.1, 0.01, 0.999])
@pytest.mark.parametrize("count", [0, 1, 5, 1000, 20000])
def test_what_is_written_is_read_and_near_its_entropy(chance, count):
    bits = np.random.default_rng(count).random(count) < chance
    data = _written(bits)
    reader, (probabilities, seen) = Reader(data), _contexts()
    for i, bit in enumerate(bits):
        assert get_bit(reader.registers, reader.data, probabilities, seen, 0) == bit
        if i % 7 == 0:
            assert get_even(reader.registers, reader.data, 5) == i % 32
    entropy = -(chance * np.log2(chance) + (1 - chance) * np.log2(1 - chance)) * count + 5 * ((count + 6) // 7)
    assert len(data) <= 1.06 * entropy / 8 + 3


def test_the_bytes_are_those_of_the_page():
    """Bits 1, 0, 1, 1 in one context that begins at a half, worked out by hand from docs/bitstream.md."""
    writer, (probabilities, seen) = Writer(), _contexts()
    for bit in (1, 0, 1, 1):
        put_bit(writer.registers, writer.out, probabilities, seen, 0, bit)
    low, width, p = 0, (1 << 32) - 1, 1 << 15
    for bit in (1, 0, 1, 1):
        bound = (width >> 16) * p
        low, width = (low + bound, width - bound) if bit else (low, bound)
        p = p - ((p - 128) >> 4) if bit else p + (((1 << 16) - 128 - p) >> 4)
    shortest = next(v for n in range(32, -1, -1) if low <= (v := ((low + (1 << n) - 1) >> n) << n) < low + width)
    assert writer.finish() == shortest.to_bytes(4, "big").rstrip(b"\0")
    assert probabilities[0] == p


def test_any_carry_is_carried():
    """Long runs of the most likely symbol between rare ones make low end in 0xFF bytes."""
    for seed in range(30):
        random = np.random.default_rng(seed)
        bits = random.random(400) < 0.997
        data = _written(bits)
        reader, (probabilities, seen) = Reader(data), _contexts()
        for i, bit in enumerate(bits):
            assert get_bit(reader.registers, reader.data, probabilities, seen, 0) == bit
            if i % 7 == 0:
                get_even(reader.registers, reader.data, 5)


@pytest.mark.parametrize("scale", [0.1, 0.5, 2.0, 40.0, 3e4])
def test_vectors_come_back_and_cost_their_entropy(scale):
    values = np.round(np.random.default_rng(0).laplace(0, scale, (400, 16))).astype(np.int64)
    levels = np.full(16, round(24 + 4 * np.log2(scale)))
    writer, contexts = Writer(), Contexts.of(levels)
    for vector in values:
        put_vector(writer, contexts, vector)
    data = writer.finish()
    reader, contexts = Reader(data), Contexts.of(levels)
    for vector in values:
        np.testing.assert_array_equal(get_vector(reader, contexts), vector)
    if scale < 10:  # larger ones leave the contexts for an Exp-Golomb code
        counts = np.unique(values, return_counts=True)[1] / values.size
        assert len(data) * 8 < 1.08 * -(counts * np.log2(counts)).sum() * values.size + 64


def test_symbols_are_the_same_on_every_machine():
    """The coder's arithmetic is all in whole numbers; these bytes must never change within a version."""
    values = np.random.default_rng(7).integers(-20, 21, (50, 5))
    writer, contexts = Writer(), Contexts.of(np.array([20, 24, 28, 36, 44]))
    for vector in values:
        put_vector(writer, contexts, vector)
    data = writer.finish()
    assert hashlib.sha256(data).hexdigest()[:16] == "973b80d81ef0df32"


def test_any_bytes_give_some_vector():
    random = np.random.default_rng(1)
    for _ in range(200):
        reader = Reader(random.bytes(int(random.integers(0, 40))))
        contexts = Contexts.of(np.full(8, 30))
        for _ in range(20):
            assert np.abs(get_vector(reader, contexts)).max() < 1 << 22


def test_numbers_that_are_too_large_are_refused():
    with pytest.raises(ValueError, match="magnitude"):
        put_vector(Writer(), Contexts.of(np.full(1, 30)), np.array([1 << 21]))

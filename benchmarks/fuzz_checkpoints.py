"""Fuzzing of the readers of `avfr import`: mutated checkpoints and configs must be read or refused in a sentence.

    python -m benchmarks.fuzz_checkpoints --seconds 60

Every file is made from its number and the seed (`--only N` makes one again). An exception other than `AvfrError`, a
sentence of more than 300 characters, or more than two seconds of processor time for one file is a failure.
"""

import argparse
import collections
import pathlib
import pickle
import random
import struct
import sys
import tempfile
import time
import traceback
import zipfile
from collections.abc import Sequence

import numpy as np
from safetensors.numpy import save

from avfr_jax.convert.checkpoint_file import read_checkpoint
from avfr_jax.convert.fomm import config_from_yaml, find_states
from avfr_jax.errors import AvfrError

_MOST_SECONDS, _LONGEST = 2.0, 300
_NUMBERS = np.arange(6, dtype="<f4").tobytes()
_YAML = b"""\
model_params:
  common_params: &common {num_kp: 10, num_channels: 3, estimate_jacobian: true}
  kp_detector_params: {temperature: 0.1, block_expansion: 32, max_features: 1024, scale_factor: 0.25, num_blocks: 5}
  generator_params: {block_expansion: 64, num_down_blocks: 2, dense_motion_params: {num_blocks: 5, scale_factor: 0.25}}
  discriminator_params: {scales: [1], block_expansion: 32, num_blocks: 4, sn: true}
again: *common
"""


def _text(words: str) -> bytes:
    return b"X" + struct.pack("<I", len(words)) + words.encode()


def _pickle() -> bytes:
    """Operations of two networks with a tensor, a NumPy scalar and a NumPy array."""
    storage = b"(" + _text("storage") + b"ctorch\nFloatStorage\n" + _text("0") + _text("cpu") + b"K\x06tQ"
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"K\x00(K\x02K\x03t(K\x03K\x01t\x89}tR"
    others = (pickle.dumps(value, 2)[2:-1] for value in (np.float64(1.5), np.arange(4.0)))
    entries = b"".join(_text(name) + value for name, value in zip("nh", others, strict=True))
    return (
        b"}(" + _text("generator") + b"}(" + _text("a.weight") + tensor + entries + b"u" + _text("kp_detector") + b"}u"
    )


def _zipped(operations: bytes, path: pathlib.Path) -> bytes:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02" + operations + b".")
        archive.writestr("archive/data/0", _NUMBERS)
    return path.read_bytes()


def _legacy(operations: bytes) -> bytes:
    start = b"".join(pickle.dumps(part, 2) for part in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}))
    return start + b"\x80\x02" + operations + b"." + pickle.dumps(["0"], 2) + struct.pack("<q", 6) + _NUMBERS


def _mutated(data: bytes, rng: random.Random) -> bytes:
    out = bytearray(data)
    for _ in range(rng.randint(1, 8)):
        at, kind = rng.randrange(len(out)), rng.random()
        if kind < 0.5:
            out[at] = rng.randrange(256)
        elif kind < 0.7:
            del out[at : at + rng.randint(1, 30)]
        elif kind < 0.85:
            out[at:at] = out[rng.randrange(len(out)) :][: rng.randint(1, 60)]
        else:
            out.insert(at, rng.choice(b"tRbuse}](0.QqhrjJKMX\x85\x86\x81\x8a\x93\x94c"))
        out = out or bytearray(b"x")
    return bytes(out)


def write_file(number: int, seed: int, folder: pathlib.Path) -> pathlib.Path:
    """The file of a number: a zip archive, older stream, safetensors file or YAML, mutated from number 5 on."""
    rng = random.Random(f"{seed} {number}")
    kind, path = number % 5, folder / ("config.yaml" if number % 5 == 4 else "weights.pth")
    arrays: dict[str, np.ndarray] = {
        "generator.a": np.ones((2, 2), np.float32),
        "kp_detector.b": np.zeros(3, np.float16),
    }
    if kind == 0:  # a valid archive of a mutated pickle
        path.write_bytes(_zipped(_mutated(_pickle(), rng) if number >= 5 else _pickle(), folder / "base.pth"))
    else:
        whole = (_zipped(_pickle(), folder / "base.pth"), _legacy(_pickle()), save(arrays), _YAML)[kind - 1]
        path.write_bytes(_mutated(whole, rng) if number >= 5 else whole)
    return path


def read_file(path: pathlib.Path) -> str:
    """The name of the error that refuses a file, `read` without one. Raises AssertionError for a failure."""
    start, outcome = time.process_time(), "read"
    try:
        if path.suffix == ".yaml":
            config_from_yaml(path)
        else:
            find_states(read_checkpoint(path), path.name)
    except AvfrError as error:
        outcome = type(error).__name__
        if len(str(error)) > _LONGEST:
            raise AssertionError(f"a sentence of {len(str(error))} characters: {error}") from None
    seconds = time.process_time() - start
    if seconds > _MOST_SECONDS:
        raise AssertionError(f"{seconds:.1f} s")
    return outcome


def main(argv: Sequence[str] | None = None) -> int:
    """Run; 1 after a failure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="of the whole run (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, default=None, metavar="N", help="one file by its number")
    arguments = parser.parse_args(argv)
    outcomes: collections.Counter[str] = collections.Counter()
    end, number = time.monotonic() + arguments.seconds, arguments.only or 0
    with tempfile.TemporaryDirectory() as folder:
        while True:
            path = write_file(number, arguments.seed, pathlib.Path(folder))
            try:
                outcomes[read_file(path)] += 1
            except Exception:
                outcomes["failure"] += 1
                print(f"--only {number} --seed {arguments.seed}:", file=sys.stderr)
                traceback.print_exc()
            number += 1
            if arguments.only is not None or time.monotonic() > end:
                break
    print(dict(outcomes))
    return 1 if outcomes["failure"] else 0


if __name__ == "__main__":
    sys.exit(main())

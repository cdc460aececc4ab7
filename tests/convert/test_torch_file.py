"""`torch.save` files: NumPy values in them, and hostile files, each refused in a sentence, soon and in little memory.

Pickles are written operation by operation, as a hostile program would.
"""

import pickle
import resource
import struct
import subprocess
import sys
import time
import zipfile

import numpy as np
import pytest

from avfr_jax.convert.torch_file import read_torch_file
from avfr_jax.errors import CheckpointError
from benchmarks import fuzz_checkpoints
from tests.conftest import REPOSITORY


def _write(path, operations, numbers=None, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02" + operations + b".")
        for key, data in (numbers or {}).items():
            archive.writestr(f"archive/data/{key}", data)
    return path


def _whole(n):
    return b"\x8a\x08" + struct.pack("<q", n)


def _text(words):
    return b"X" + struct.pack("<I", len(words)) + words.encode()


def _tensor(stored, shape, strides, offset=0, kind="FloatStorage"):
    storage = (
        b"(" + _text("storage") + f"ctorch\n{kind}\n".encode() + _text("0") + _text("cpu") + _whole(stored) + b"tQ"
    )
    pairs = b"".join(b"(" + b"".join(map(_whole, values)) + b"t" for values in (shape, strides))
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + _whole(offset) + pairs + b"\x89}tR"


def _shared_lists(width, levels):
    lists = b"K\x01q\x000"
    for level in range(levels):
        lists += b"](" + bytes([0x68, level]) * width + b"eq" + bytes([level + 1]) + b"0"
    return lists + bytes([0x68, levels])


_LONG = b"X" + struct.pack("<I", 100_000) + b"a" * 100_000 + b"q\x00"
_HOSTILE = {
    "a repeated number": (_tensor(1, (1 << 14, 1 << 14), (0, 0)), {0: bytes(4)}),
    "repeated rows": (_tensor(4, (1 << 20, 4), (0, 1)), {0: bytes(16)}),
    "outside its numbers": (_tensor(4, (2, 4), (4, 1)), {0: bytes(16)}),
    "a negative offset": (_tensor(4, (4,), (1,), offset=-2), {0: bytes(16)}),
    "more numbers than stored": (_tensor(1 << 40, (4,), (1,)), {0: bytes(16)}),
    "numbers missing": (_tensor(4, (4,), (1,)), {}),
    "one tensor ten thousand times": (
        b"](" + _tensor(50_000, (50_000,), (1,)) + b"q\x00" + b"h\x00" * 10_000 + b"e",
        {0: bytes(200_000)},
    ),
    "lists that share lists": (_shared_lists(10, 30), {}),
    "wide lists that share lists": (_shared_lists(200, 10), {}),
    "a list that holds itself": (b"]q\x00h\x00a", {}),
    "a dictionary that holds itself": (b"}q\x00K\x01h\x00s", {}),
    "deep lists": (b"]" * 30_000 + b"a" * 29_999, {}),
    "a far place in memory": (b"Nr\xff\xff\xff\x7f", {}),
    "an absurd length": (b"\x8d" + struct.pack("<Q", 1 << 62), {}),
    "one text encoded a thousand times": (
        _LONG + b"0](" + b"c_codecs\nencode\n(h\x00X\x06\x00\x00\x00latin1tR" * 1000 + b"e",
        {},
    ),
    "an object array": (
        b"cnumpy.core.multiarray\nscalar\n(cnumpy\ndtype\n(X\x02\x00\x00\x00O8\x89\x88tRX\x01\x00\x00\x00atR",
        {},
    ),
}


@pytest.mark.parametrize("name", list(_HOSTILE))
def test_hostile_files_are_refused(tmp_path, name):
    operations, numbers = _HOSTILE[name]
    path = _write(tmp_path / "hostile.pth", operations, numbers)
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    with pytest.raises(CheckpointError, match=r"hostile\.pth") as caught:
        read_torch_file(path)
    assert len(str(caught.value)) <= 300
    assert time.process_time() - start < 2
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) < 200_000  # kB


def test_zip_bomb_is_refused(tmp_path):
    numbers = bytes(80_000_000)
    path = _write(tmp_path / "bomb.pth", _tensor(2 * 10**7, (2 * 10**7,), (1,)), {0: numbers}, zipfile.ZIP_DEFLATED)
    with pytest.raises(CheckpointError, match="unpack to far more"):
        read_torch_file(path)


def test_old_layout_trusts_no_size(tmp_path):
    parts = [pickle.dumps(part, 2) for part in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})]
    parts += [b"\x80\x02" + _tensor(4, (4,), (1,)) + b".", pickle.dumps(["0"], 2)]
    for size in (1 << 40, 5, -1):
        path = tmp_path / "old.pth"
        path.write_bytes(b"".join(parts) + struct.pack("<q", size) + bytes(16))
        with pytest.raises(CheckpointError, match=r"old\.pth"):
            read_torch_file(path)
    path.write_bytes(b"".join(parts) + struct.pack("<q", 4) + bytes(16))
    np.testing.assert_array_equal(read_torch_file(path), np.zeros(4, np.float32))


def test_tensors_may_be_views_of_stored_numbers(tmp_path):
    numbers = np.arange(12, dtype=np.float32)
    path = _write(tmp_path / "view.pth", _tensor(12, (3, 2), (1, 4), offset=2), {0: numbers.tobytes()})
    np.testing.assert_array_equal(read_torch_file(path), [[2, 6], [3, 7], [4, 8]])


def test_half_precision_of_the_wide_kind(tmp_path):
    wide = np.array([1.5, -2, 3.25], np.float32)
    stored = (wide.view(np.uint32) >> 16).astype(np.uint16).tobytes()
    path = _write(tmp_path / "bf16.pth", _tensor(3, (3,), (1,), kind="BFloat16Storage"), {0: stored})
    np.testing.assert_array_equal(read_torch_file(path), wide)


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_numpy_values_are_read(tmp_path, protocol):
    values = {
        "loss": np.float64(0.25),
        "epoch": np.int64(7),
        "best": np.bool_(True),
        "history": np.arange(6, dtype=np.float32).reshape(2, 3),
        "columns": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "big": np.arange(3, dtype=">i4"),
    }
    path = tmp_path / "numpy.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(values, protocol))
    read = read_torch_file(path)
    assert read.keys() == values.keys()
    for name, value in values.items():
        np.testing.assert_array_equal(read[name], value)


def test_names_of_the_older_numpy_are_read(tmp_path):
    text = pickle.dumps(np.float64(0.5), 2)
    for ours, theirs in ((b"numpy._core.", b"numpy.core."), (b"numpy.core.", b"numpy._core.")):
        with zipfile.ZipFile(tmp_path / "scalar.pth", "w") as archive:
            archive.writestr("archive/data.pkl", text.replace(ours, theirs))
        assert read_torch_file(tmp_path / "scalar.pth") == 0.5


def test_mutated_files_are_read_or_refused_in_a_sentence(tmp_path):
    outcomes = [fuzz_checkpoints.read_file(fuzz_checkpoints.write_file(n, 1, tmp_path)) for n in range(100)]
    assert outcomes[:5] == ["read"] * 5  # not mutated
    assert {"CheckpointError", "ConfigError"} <= set(outcomes)


@pytest.mark.shared
def test_hostile_files_through_the_command(shared_dir, golden_dir, tmp_path):
    folder = shared_dir / "cases" / "import"
    if not folder.is_dir():
        pytest.skip("the hostile files are not on this machine")
    program = (
        "import sys, time, avfr_jax.convert.fomm\n"
        "from avfr_jax.cli.main import main\n"
        "start = time.process_time()\n"
        "out, golden = sys.argv[1:3]\n"
        "for file in sys.argv[3:]:\n"
        "    words = [golden, out, '--config', file] if file.endswith('yaml') else [file, out]\n"
        "    print(main(['import', 'fomm', *words]), time.process_time() - start)\n"
        "print(open('/proc/self/status').read().split('VmHWM:')[1].split()[0])\n"
    )
    files = sorted(folder.glob("*"))
    words = [tmp_path / "out", golden_dir / "fomm_tiny.pth.tar", *files]
    command = [sys.executable, "-c", program, *map(str, words)]
    run = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60)
    *lines, peak = run.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["2"] * len(files), run.stderr
    sentences = run.stderr.strip().splitlines()
    assert len(sentences) == len(files) >= 5
    assert max(map(len, sentences)) <= 300
    assert float(lines[-1].split()[1]) < 2, "seconds of all together"
    assert int(peak) < 1_000_000, "kB"
    assert not (tmp_path / "out").exists()

"""What every test shares: where the reference material lies, if it does, and a quiet, strict JAX."""

import atexit
import os
import pathlib
import shutil
import tempfile

import pytest

# Programs that mostly run once are compiled in a third of the time; and there are eight simulated devices.
QUICK_COMPILATION = (
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true --xla_cpu_use_fusion_emitters=false"
)
os.environ.setdefault("XLA_FLAGS", f"--xla_force_host_platform_device_count=8 {QUICK_COMPILATION}")
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Several processes test at once, and BLAS threads without a core each spin: seconds become minutes.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
# One cache of compiled programs for the run: its processes, and the programs that tests start, compile many alike. Set
# the variable to keep them for the next run.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:  # this is the process that starts the others
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="avfr-tests-")
    atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")

# The files that take longest, which come first so that the processes of a run end together.
LONGEST = (
    "training/test_golden.py",
    "reenact/test_reenactor.py",
    "training/test_checkpointing.py",
    "test_documented_commands.py",
    "cli/test_codec.py",
    "models/test_fomm.py",
    "training/test_step.py",
    "experiments/test_experiment.py",
    "models/test_mesh_fomm.py",
    "cli/test_cli.py",
    "backbones/test_mediapipe_nets.py",
    "data/clip_folder/test_clip_folder.py",
    "experiments/test_codec_networks.py",
)
REPOSITORY = pathlib.Path(__file__).resolve().parents[1]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order the files by `LONGEST`; a file's own tests stay as they are."""
    place = {REPOSITORY / "tests" / name: i for i, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path, len(place)))


@pytest.fixture(scope="session")
def shared_dir() -> pathlib.Path:
    """Folder with reference numbers (`golden/`) and clips (`clips/`); tests that need it skip without it."""
    folder = pathlib.Path(os.environ.get("AVFR_SHARED", REPOSITORY.parent / "shared"))
    if not (folder / "golden").is_dir():
        pytest.skip("the reference numbers (AVFR_SHARED) are not on this machine")
    return folder


@pytest.fixture(scope="session")
def golden_dir() -> pathlib.Path:
    """Numbers computed by the reference programs, the part of them that lies in the repository."""
    return REPOSITORY / "tests" / "golden"


@pytest.fixture(scope="session")
def portrait(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A picture of a face, 256 × 256."""
    from PIL import Image

    from tests.media_fixtures import astronaut

    path = tmp_path_factory.mktemp("portrait") / "astronaut.png"
    Image.fromarray(astronaut()).save(path)
    return path


@pytest.fixture(scope="session")
def driving(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A clip of 20 frames with sound: the same face, moving."""
    from tests.media_fixtures import astronaut, moved, write_clip

    path = tmp_path_factory.mktemp("driving") / "driving.mp4"
    return write_clip(path, [moved(astronaut(), i) for i in range(20)])


@pytest.fixture(scope="session")
def short(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The first four frames of `driving`, for what needs no more."""
    from tests.media_fixtures import astronaut, moved, write_clip

    path = tmp_path_factory.mktemp("short") / "short.mp4"
    return write_clip(path, [moved(astronaut(), i) for i in range(4)])

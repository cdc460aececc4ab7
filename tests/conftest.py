"""What every test shares: where the reference material lies, if it does, and a quiet, strict JAX."""

import os
import pathlib

import pytest

os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=8")
os.environ.setdefault("JAX_PLATFORMS", "cpu")

REPOSITORY = pathlib.Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared_dir() -> pathlib.Path:
    """Folder with reference numbers (`golden/`) and clips (`clips/`); tests that need it skip without it."""
    folder = pathlib.Path(os.environ.get("AVFR_SHARED", REPOSITORY.parent / "shared"))
    if not (folder / "golden").is_dir():
        pytest.skip("the reference numbers (AVFR_SHARED) are not on this machine")
    return folder

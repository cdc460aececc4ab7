"""Commands in surroundings where something usual is missing; `test_folders` and `test_streams` have the rest."""

import importlib.util
import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
STREAM = ROOT / "tests/codec/version1/landmark-warp.avfr"
NOWHERE = f"""\
import os, pwd, sys
os.environ.pop("HOME", None)
def unknown(number): raise KeyError(number)
pwd.getpwuid = unknown
access = os.access
os.access = lambda path, mode: access(path, mode) and not mode & os.W_OK
import numba.core.caching
numba.core.caching.CacheImpl._locator_classes = []
from avfr_jax.cli.main import main
sys.exit(main(["inspect", "--json", {str(STREAM)!r}]) or main(["models"]))
"""


def _run(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if k not in ("AVFR_HOME", "XDG_CACHE_HOME")} | variables
    command = [sys.executable, *words]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def test_commands_run_for_a_user_without_home_where_nothing_can_be_written():
    done = _run("-c", NOWHERE)
    assert (done.returncode, done.stderr) == (0, "")
    assert '"frames"' in done.stdout
    assert "landmark-warp" in done.stdout


@pytest.mark.parametrize("platform", ["nonsense", "cuda"])
def test_a_platform_that_is_not_there_is_refused_by_name(platform, tmp_path):
    if platform == "cuda" and any(importlib.util.find_spec(f"jax_cuda{n}_plugin") for n in (12, 13)):
        pytest.skip("JAX has a CUDA plugin here")
    done = _run("-m", "avfr_jax", "demo", "--output", str(tmp_path / "demo"), JAX_PLATFORMS=platform)
    assert (done.returncode, done.stdout) == (2, "")
    (sentence,) = done.stderr.splitlines()
    assert sentence.startswith(
        f"avfr: JAX_PLATFORMS={platform} names a device that JAX does not find here; available: "
    )
    assert not (tmp_path / "demo").exists()

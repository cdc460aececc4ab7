"""Packages that are not installed are named with the line that brings them."""

import json
import pathlib
import re
import subprocess
import sys
import tomllib

import pytest

import avfr_jax
from avfr_jax import landmarks, packages
from avfr_jax.cli import doctor
from avfr_jax.cli.main import main
from avfr_jax.errors import MissingBackendError
from data.clip_folder import prepare_synthetic

ROOT = pathlib.Path(__file__).resolve().parents[1]


def without(modules, *words):
    """A command in a process that lacks some packages."""
    block = "".join(f"sys.modules[{m!r}] = None; " for m in modules)
    code = f"import sys; {block}from avfr_jax.cli.main import main; sys.exit(main({list(words)!r}))"
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)


def test_a_command_names_the_line():
    done = without(["av", "cv2", "numba"], "demo", "--output", "/nonexistent/demo")
    assert done.returncode == 2
    assert "pip install 'avfr-jax[media]'" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("program", ["data.clip_folder", "data.prepare", "experiments.evaluate"])
def test_a_program_names_the_line(program):
    """As with the core alone: the import itself fails, before the program has parsed anything."""
    block = "import runpy, sys; sys.modules.update(dict.fromkeys(('av', 'cv2', 'numba')));"
    code = f"{block} sys.argv = ['-m']; runpy._run_module_as_main({program!r})"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1
    assert "pip install 'avfr-jax[media]'" in done.stderr


def test_the_python_interface_names_the_line():
    code = """
import sys
sys.modules["av"] = None
import avfr_jax, avfr_jax.codec
from avfr_jax.errors import MissingBackendError
for use in (lambda: avfr_jax.Reenactor("landmark-warp").steps("a", "b"), lambda: avfr_jax.codec.Sender):
    try:
        use()
    except MissingBackendError as error:
        print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    sentence = "This needs the package av, which is not installed: pip install 'avfr-jax[media]'"
    assert (done.stderr, done.stdout.splitlines()) == ("", [sentence] * 2)


def test_edges_of_the_mesh_name_the_line_of_mediapipe(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "mediapipe", None)
    for name in [n for n in sys.modules if n.startswith("mediapipe.")]:
        monkeypatch.delitem(sys.modules, name)
    for cached in (landmarks._directed_edges, landmarks.tessellation_edges):
        cached.cache_clear()
    with pytest.raises(MissingBackendError, match=re.escape(packages.FACE_BACKEND)):
        prepare_synthetic(tmp_path / "heads", clips=1, frames=2, size=32)
    assert not (tmp_path / "heads").exists()


def test_other_modules_are_no_optional_packages():
    assert packages.missing_package(ModuleNotFoundError(name="avfr_jax.nothing")) is None
    assert packages.FACE_BACKEND in str(packages.missing_package(ModuleNotFoundError(name="mediapipe.python")))


def test_doctor_exits_with_1_where_the_face_backend_is_broken(monkeypatch, capsys):
    def broken(name):
        raise AttributeError("'MessageFactory' object has no attribute 'GetPrototype'")

    monkeypatch.setattr(doctor, "_open_faces", broken)
    assert main(["doctor", "--json"]) == 1
    assert packages.FACE_BACKEND in json.loads(capsys.readouterr().out)["avfr reenact"]


def test_one_version():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["tool"]["hatch"]["version"]["path"] == "avfr_jax/__init__.py"
    assert f"version: {avfr_jax.__version__}\n" in (ROOT / "CITATION.cff").read_text()


def test_module_is_the_command():
    words = [sys.executable, "-m", "avfr_jax", "--version"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout == f"avfr {avfr_jax.__version__}\n"


@pytest.mark.parametrize("extra", ["media", "all"])
def test_no_extra_brings_mediapipe(extra):
    lists = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert not [line for line in lists[extra] if line.startswith("mediapipe")]


@pytest.mark.parametrize("error", [OSError("no\nfolder"), RuntimeError("no folder")])
def test_a_package_that_finds_no_folder_to_write_to_is_named(error):
    with (
        pytest.raises(MissingBackendError, match=r"librosa cannot be imported \(no.*AVFR_HOME"),
        packages.importing("librosa"),
    ):
        raise error

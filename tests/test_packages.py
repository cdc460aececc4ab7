"""Packages that are not installed are named with the line that brings them."""

import json
import pathlib
import subprocess
import sys
import tomllib

import pytest

import avfr_jax
from avfr_jax import packages
from avfr_jax.cli import doctor
from avfr_jax.cli.main import main

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

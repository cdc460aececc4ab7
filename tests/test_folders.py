import os
import pathlib
import pwd
import stat

import pytest

from avfr_jax import folders

VARIABLES = ("AVFR_HOME", "AVFR_MODELS", "AVFR_WEIGHTS", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "NUMBA_CACHE_DIR",
             "MPLCONFIGDIR", "JAX_COMPILATION_CACHE_DIR")  # fmt: skip


@pytest.fixture(autouse=True)
def _surroundings(tmp_path, monkeypatch):
    """A home folder and a place for temporary files, and no variable set."""
    for name in VARIABLES:
        monkeypatch.setenv(name, "")  # so that it is restored
        monkeypatch.delenv(name)
    for name in ("home", "tmp"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path / "tmp"))


@pytest.fixture
def temporary(tmp_path) -> pathlib.Path:
    return tmp_path / "tmp" / f"avfr-jax-{os.getuid()}"


def _without_home(monkeypatch) -> None:
    def unknown(number):
        raise KeyError(number)

    monkeypatch.delenv("HOME")
    monkeypatch.setattr(pwd, "getpwuid", unknown)


def _read_only(monkeypatch, *places: pathlib.Path) -> None:
    """Refuse to write in these places, which root could."""
    access = os.access

    def refuse(path, mode):
        return access(path, mode) and not (mode & os.W_OK and any(pathlib.Path(path).is_relative_to(p) for p in places))

    monkeypatch.setattr(os, "access", refuse)


def test_the_home_folder_is_the_default(tmp_path):
    assert folders.cache_folder() == tmp_path / "home/.cache/avfr-jax"
    assert folders.compiled_folder() == tmp_path / "home/.cache/avfr-jax/compiled"
    assert folders.compiled_folder().is_dir()


def test_variables_win_and_tildes_are_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "~/x")
    assert folders.cache_folder() == tmp_path / "home/x/avfr-jax"
    monkeypatch.setenv("AVFR_HOME", "~/y")
    monkeypatch.setenv("AVFR_MODELS", "~/m::/n")
    monkeypatch.setenv("AVFR_WEIGHTS", "~/w")
    assert folders.cache_folder() == tmp_path / "home/y"
    assert folders.model_folders()[:3] == [tmp_path / "home/m", pathlib.Path("/n"), tmp_path / "home/y/models"]
    assert folders.face_model_folder() == tmp_path / "home/w"


@pytest.mark.parametrize("variables", [{}, {"AVFR_HOME": "~/x"}])
def test_a_user_without_a_home_has_a_private_temporary_folder(variables, temporary, monkeypatch):
    _without_home(monkeypatch)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert folders.cache_folder() == temporary
    assert folders.compiled_folder() == temporary / "compiled"
    assert stat.S_IMODE(temporary.stat().st_mode) == 0o700
    folders.set_library_folders()
    assert os.environ["XDG_CACHE_HOME"] == str(temporary / "cache")
    assert folders.cache_folder() == temporary / "cache/avfr-jax"
    assert os.environ["NUMBA_CACHE_DIR"] == str(temporary / "cache/avfr-jax/numba")
    assert os.environ["MPLCONFIGDIR"] == str(temporary / "cache/avfr-jax/matplotlib")


def test_a_temporary_folder_that_others_can_write_to_is_not_used(temporary, monkeypatch):
    _without_home(monkeypatch)
    temporary.mkdir()
    temporary.chmod(0o777)
    assert folders.compiled_folder() is None
    assert folders.cache_folder() not in (temporary, *temporary.parents)
    temporary.rmdir()
    temporary.symlink_to(temporary.parent)
    assert folders.compiled_folder() is None


def test_what_lies_in_a_read_only_home_is_read_and_caches_go_elsewhere(tmp_path, temporary, monkeypatch):
    own = tmp_path / "home/.cache/avfr-jax"
    own.mkdir(parents=True)
    _read_only(monkeypatch, tmp_path / "home")
    assert folders.cache_folder() == own
    assert folders.compiled_folder() == temporary / "compiled"


def test_a_cache_of_another_user_is_passed_over(tmp_path, temporary, monkeypatch):
    """As after `sudo avfr`, which makes root's folders in the user's home."""
    own = tmp_path / "home/.cache/avfr-jax"
    (own / "compiled").mkdir(parents=True)
    _read_only(monkeypatch, own / "compiled")
    assert folders.compiled_folder() == temporary / "compiled"


@pytest.mark.parametrize("kind", ["file", "below a file"])
def test_a_variable_that_names_no_folder_counts_for_models_and_not_for_caches(kind, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    named = tmp_path / "file" / ("x" if kind == "below a file" else "")
    monkeypatch.setenv("AVFR_HOME", str(named))
    assert folders.cache_folder() == named
    assert folders.compiled_folder() == tmp_path / "home/.cache/avfr-jax/compiled"
    assert "(not a folder)" in str(folders.describe_folders()) or "(cannot be made)" in str(folders.describe_folders())


def test_where_nothing_can_be_written_nothing_is_cached(tmp_path, monkeypatch):
    _read_only(monkeypatch, tmp_path)
    assert folders.compiled_folder() is None
    assert folders.describe_folders()["compiled by JAX"] == "not kept"
    assert not list((tmp_path / "home").iterdir())


def test_folders_of_libraries_that_can_be_written_to_are_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "mine"))
    folders.set_library_folders()
    assert os.environ["NUMBA_CACHE_DIR"] == str(tmp_path / "mine")
    assert "MPLCONFIGDIR" not in os.environ  # the home folder serves
    assert not list((tmp_path / "home").iterdir())


def test_the_description_names_every_candidate(tmp_path, monkeypatch):
    monkeypatch.setenv("AVFR_HOME", str(tmp_path / "a"))
    described = folders.describe_folders()
    assert described["models and weights"] == str(tmp_path / "a")
    assert described["chosen from"] == {
        "AVFR_HOME": f"{tmp_path}/a (can be made)",
        "XDG_CACHE_HOME": "not set",
        "home folder": f"{tmp_path}/home/.cache/avfr-jax (can be made)",
        "temporary folder": f"{tmp_path}/tmp/avfr-jax-{os.getuid()} (can be made)",
    }

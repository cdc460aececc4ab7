"""An import only points down, or to a room further left on the same floor; there is no circle; the networks need JAX
and Flax alone."""

import ast
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
# Every room of the house, from the ground up and from left to right: packages and single modules of avfr_jax, and the
# packages beside it. An import leads to an earlier room.
FLOORS = (
    (
        "avfr_jax",
        "typing",
        "errors",
        "interrupts",
        "config",
        "folders",
        "numba_jit",
        "streams",
        "packages",
        "landmarks",
        "checkpoints",
        "runtime",
        "arguments",
    ),
    ("ops",),
    ("nn", "backbones", "losses", "motion", "media"),
    ("faces", "models", "convert"),
    ("families", "model_store", "tracking", "metrics", "pipelines"),
    ("codec", "training"),
    ("reenact", "explain", "data"),
    ("cli", "experiments", "benchmarks", "__main__"),
)
BESIDE = ("data", "pipelines", "experiments", "benchmarks")
RANK = {room: place for place, room in enumerate(room for floor in FLOORS for room in floor)}
ALONE = ("ops", "motion", "nn", "models", "training", "families", "losses", "backbones", "convert", "metrics")
OPTIONAL = (
    "mediapipe", "cv2", "av", "librosa", "skimage", "tqdm", "jaxtyping", "dm_pix", "PIL", "tflite", "tensorboardX",
)  # fmt: skip


def _modules() -> dict[str, pathlib.Path]:
    paths = (path for top in ("avfr_jax", *BESIDE) for path in (ROOT / top).rglob("*.py"))
    names = {path: path.relative_to(ROOT).with_suffix("").parts for path in paths}
    return {".".join(parts[:-1] if parts[-1] == "__init__" else parts): path for path, parts in names.items()}


MODULES = _modules()


def _imports(module: str) -> set[str]:
    """The modules of this repository that a module imports, at the top or inside a function."""
    names = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= (inner & MODULES.keys()) or {node.module}
    return (names & MODULES.keys()) - {module}


def _room(module: str) -> str:
    top, _, rest = module.partition(".")
    return top if top in BESIDE else rest.partition(".")[0] or top


# The package itself names its public objects, which are imported when first used.
GRAPH = {module: _imports(module) for module in MODULES if module != "avfr_jax"}


def test_every_room_is_listed():
    assert {_room(module) for module in MODULES} <= RANK.keys()


def test_imports_point_down():
    wrong = [
        f"{module} imports {name}"
        for module, names in GRAPH.items()
        for name in names
        if (RANK[_room(name)] > RANK[_room(module)]) or (module.startswith("avfr_jax.") and _room(name) in BESIDE)
    ]
    assert not wrong, "\n".join(sorted(wrong))


def _circle(graph: dict[str, set[str]]) -> list[str]:
    """The modules of a circle, or none."""
    graph = {name: set(names) for name, names in graph.items()}
    while leaves := [name for name, names in graph.items() if not names & graph.keys()]:
        for name in leaves:
            del graph[name]
    path = list(graph)[:1]
    while path and (after := next(iter(sorted(graph[path[-1]] & graph.keys())))) not in path:
        path.append(after)
    return path[path.index(after) :] if path else []


@pytest.mark.parametrize("room", RANK)
def test_no_circle_in_a_room(room):
    circle = _circle({module: names for module, names in GRAPH.items() if _room(module) == room})
    assert not circle, " -> ".join(circle)


def test_a_circle_is_reported():
    assert _circle({"a": {"b"}, "b": {"c"}, "c": {"b", "d"}, "d": set()}) == ["b", "c"]
    assert not _circle({"a": {"b"}, "b": {"c"}, "c": {"d"}})


def test_networks_import_without_the_optional_packages():
    modules = [m for m in MODULES if _room(m) in ALONE or m in ("avfr_jax.model_store", "avfr_jax.checkpoints")]
    block = "".join(f"sys.modules[{name!r}] = None\n" for name in OPTIONAL)
    code = f"import sys\n{block}" + "".join(f"import {module}\n" for module in modules)
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("code", ["import avfr_jax", "from avfr_jax.cli.main import _parser; _parser(['--help'])"])
def test_package_and_help_import_no_numerical_library(code):
    code = f"{code}; import sys; assert not {{'jax', 'numpy', 'flax', 'cv2', 'av'}} & sys.modules.keys()"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

"""An import only ever points down, and the networks need JAX and Flax alone."""

import ast
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
# The floor of each part of the package; what is not named here is a single file without dependants to worry about.
FLOORS = {
    "typing": 0, "errors": 0, "config": 0, "folders": 0,
    "ops": 1, "nn": 1, "media": 1, "checkpoints": 1, "backbones": 1,     "losses": 1, "faces": 2, "models": 2,
    "convert": 3, "metrics": 3,
    "model_store": 4, "runtime": 4, "tracking": 4, "training": 5,
    "reenact": 5, "explain": 6,
    "cli": 7,
}  # fmt: skip
OPTIONAL = (
    "mediapipe",
    "cv2",
    "av",
    "librosa",
    "skimage",
    "tqdm",
    "jaxtyping",
    "dm_pix",
    "PIL",
    "tflite",
    "tensorboardX",
)


def _imports(path: pathlib.Path) -> set[str]:
    """Every module that a file names in an import, at the top or inside a function."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def test_imports_point_down():
    wrong = []
    for path in (ROOT / "avfr_jax").rglob("*.py"):
        part = path.relative_to(ROOT / "avfr_jax").with_suffix("").parts[0]
        for name in _imports(path):
            words = name.split(".")
            if words[0] in ("data", "pipelines", "experiments", "tests", "benchmarks"):
                wrong.append(f"{path.relative_to(ROOT)} imports {name}")
            if words[0] == "avfr_jax" and len(words) > 1 and part in FLOORS and FLOORS.get(words[1], 0) > FLOORS[part]:
                wrong.append(f"{path.relative_to(ROOT)} (floor {FLOORS[part]}) imports {name}")
    assert not wrong, "\n".join(wrong)


def test_networks_import_without_the_optional_packages():
    modules = (
        *(
            "ops.sampling",
            "ops.motion",
            "ops.resize",
            "ops.tps",
            "ops.rotations",
            "models.fomm",
            "models.fomm_animator",
        ),
        *("losses", "backbones.vgg", "backbones.mediapipe_nets", "models.mesh_fomm_animator"),
        *("training.loop", "training.objectives.mesh_fomm"),
        *("models.landmark_warp", "convert.fomm", "checkpoints", "metrics.image", "metrics.faces", "model_store"),
    )
    block = "".join(f"sys.modules[{name!r}] = None\n" for name in OPTIONAL)
    code = f"import sys\n{block}" + "".join(f"import avfr_jax.{module}\n" for module in modules)
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

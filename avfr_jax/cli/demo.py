"""`avfr demo`: reenactment of the bundled material, with a contact sheet and a table of metrics."""

import argparse
import importlib.resources
import json
import pathlib
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

_EPILOG = """\
example:
  avfr demo --output demo

Writes into the folder:
  output.mp4         the astronaut (a public-domain portrait) moved by a bundled synthetic talking head, with its sound
  contact_sheet.png  source, driving frames and results
  metrics.md, .json  self-reenactment of the driving clip from its first frame, beside copying that frame
"""
_FILES = ("output.mp4", "contact_sheet.png", "metrics.md", "metrics.json")
_COLUMNS = {
    "l1": "L1 ↓",
    "psnr": "PSNR dB ↑",
    "ssim": "SSIM ↑",
    "landmark_distance": "landmarks px ↓",
    "mouth_distance": "lips px ↓",
    "motion_correlation": "motion ↑",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.epilog = _EPILOG
    parser.add_argument("--output", default="demo", metavar="FOLDER", help="where to write (default: %(default)s)")
    parser.add_argument("--model", default=None, metavar="NAME", help="model's name or folder (default: mesh-fomm)")
    parser.add_argument("--overwrite", action="store_true", help="replace the results of an earlier run")


def run(arguments: argparse.Namespace) -> None:
    """Run the demonstration."""
    from avfr_jax.errors import OutputError
    from avfr_jax.media.files import atomic_file, check_output
    from avfr_jax.model_store import DEFAULT_MODEL, load_model
    from avfr_jax.nn.allocator import keep_freed_memory
    from avfr_jax.runtime import start_jax

    start_jax()
    folder = pathlib.Path(arguments.output)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"The folder {folder} cannot be made ({error.strerror}).") from None
    driving = importlib.resources.files("avfr_jax") / "assets" / "driver.mp4"
    with importlib.resources.as_file(driving) as path:
        for name in _FILES:
            check_output(folder / name, arguments.overwrite, inputs=[path])
        model = load_model(arguments.model or DEFAULT_MODEL)
        keep_freed_memory()  # after loading, which frees memory that goes back to the system
        rows = _reenact(model, path, folder)
        figures = _measure(model, path)
    _write_sheet(rows, folder / "contact_sheet.png")
    table = _table(figures)
    for name, text in (("metrics.json", json.dumps(figures, indent=2) + "\n"), ("metrics.md", table)):
        with atomic_file(folder / name, overwrite=True) as scratch:
            scratch.write_text(text)
    print(table)
    print(f"{folder}/output.mp4, contact_sheet.png, metrics.md", file=sys.stderr)


def _progress(session: Any, name: str) -> Iterator[Any]:
    from tqdm import tqdm

    return iter(tqdm(session, total=session.frames, unit=" frames", desc=name, disable=None, file=sys.stderr))


def _reenact(model: Any, driving: pathlib.Path, folder: pathlib.Path) -> list[Any]:
    """Write the astronaut driven by the bundled clip; some of the frames side by side with their inputs."""
    from skimage.data import astronaut

    from avfr_jax.media.video_writer import VideoWriter
    from avfr_jax.media.watermark import Watermark, payload_from_text, provenance
    from avfr_jax.reenact import Reenactor, side_by_side

    session = Reenactor(model).steps(astronaut(), driving)  # type: ignore[no-untyped-call]
    mark = Watermark("both", payload_from_text(f"avfr-jax {model.name}"))
    size, kept = model.image_size, []
    shown = np.linspace(0, (session.frames or 1) - 1, 6).astype(int)
    output = folder / "output.mp4"
    with VideoWriter(output, size, size, audio=driving, overwrite=True, metadata=provenance(model.name)) as writer:
        for step in _progress(session, "output.mp4"):
            writer.write(mark.apply(step.frame, step.index))
            if step.index in shown:
                kept.append(side_by_side(step))
    return kept


def _measure(model: Any, driving: pathlib.Path) -> dict[str, dict[str, float]]:
    """Metrics of self-reenactment from the first frame, and of a copy of that frame."""
    from avfr_jax.faces import open_face_backend
    from avfr_jax.reenact import Reenactor
    from avfr_jax.tracking import track_landmarks

    truth, generated = [], []
    for step in _progress(Reenactor(model, best_frame="first").steps(driving, driving), "metrics"):
        truth.append(step.driving)
        generated.append(step.generated)
    clips = {"copy of the first frame": [truth[0]] * len(truth), model.name: generated}
    out = {}
    with open_face_backend() as priors:
        reference = track_landmarks(truth, priors)
        for name, frames in clips.items():
            out[name] = _scores(truth, reference, frames, track_landmarks(frames, priors))
    return out


def _scores(truth: list[Any], reference: Any, frames: list[Any], landmarks: Any) -> dict[str, float]:
    import jax.numpy as jnp

    from avfr_jax.landmarks import normalise_landmarks
    from avfr_jax.metrics import faces, image

    a, b = (jnp.asarray(np.stack(f), jnp.float32) / 255 for f in (truth, frames))
    size = a.shape[1]
    both = np.isfinite(reference).all((1, 2)) & np.isfinite(landmarks).all((1, 2))
    x, y = (jnp.asarray(normalise_landmarks(l[both], size, size)) for l in (reference, landmarks))
    return {
        "l1": float(image.l1(a, b).mean()),
        "psnr": float(image.psnr(a, b).mean()),
        "ssim": float(image.ssim(a, b).mean()),
        "landmark_distance": float(faces.landmark_distance(x, y).mean()),
        "mouth_distance": float(faces.mouth_distance(x, y).mean()),
        "motion_correlation": float(faces.motion_correlation(x, y)),
        "frames": float(len(truth)),
        "frames_without_face": float((~both).sum()),
    }


def _table(figures: dict[str, dict[str, float]]) -> str:
    head = "| | " + " | ".join(_COLUMNS.values()) + " |\n|---" + "|---:" * len(_COLUMNS) + "|\n"
    rows = (f"| {name} | " + " | ".join(f"{row[c]:.3f}" for c in _COLUMNS) + " |\n" for name, row in figures.items())
    return head + "".join(rows)


def _write_sheet(rows: list[Any], path: pathlib.Path) -> None:
    from avfr_jax.media.image import write_image

    half = (len(rows) + 1) // 2
    blank = np.full_like(rows[0], 255)
    columns = [np.concatenate([*rows, blank][i : i + half]) for i in (0, half)]
    write_image(path, np.concatenate(columns, axis=1), overwrite=True)

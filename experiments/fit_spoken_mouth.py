"""Fit the audio-driven mouth: `python -m experiments.fit_spoken_mouth DATASET OUT.npz --held-out DATASET`.

DATASET is a folder of `python -m data.clip_folder`. Exclude clips whose sound is not the person's, or not in time with
the video, by --leave-out. Shapes: regression of the mesh without its pose on the opening and width of the mouth.
Network: a perceptron on the sound around a frame, trained on opening and width in units of each clip's own range, with
perturbed levels and bands.

Expected: a correlation of 0.35 between predicted and tracked opening on unseen identities, from two minutes of eighteen
people. Time: half a minute on one core.
"""

from avfr_jax.interrupts import exit_on_signals

if __name__ == "__main__":  # before the imports, which take a while
    exit_on_signals("experiments.fit_spoken_mouth", "stopped; nothing was written.")


import argparse
import itertools
import pathlib
import sys
from collections.abc import Collection
from typing import Any, NamedTuple

import numpy as np

from avfr_jax.errors import InputError
from avfr_jax.faces.spoken_mouth import Placement, SpokenMouth, features, mouth_numbers
from avfr_jax.media.files import atomic_file
from avfr_jax.media.mel import SILENCE
from avfr_jax.streams import standard_streams
from avfr_jax.typing import Float
from experiments.harness import run_program, tracked_clips
from pipelines import record

_HIDDEN = (64, 32)
_ROUNDS, _STEPS, _BATCH = 16, 100, 256
_RANGE = 0.3  # least range of a mouth, centimetres
_AUDIBLE = 0.02  # least share of a spectrogram above the floor in a clip with sound


class Track(NamedTuple):
    """A clip's name, faces without their pose in centimetres, and spectrogram."""

    name: str
    faces: Float[np.ndarray, "t 478 3"]
    mel: Float[np.ndarray, "80 m"]

    @property
    def audible(self) -> bool:
        return float((self.mel > SILENCE + 0.1).mean()) > _AUDIBLE


def read_tracks(dataset: pathlib.Path, leave_out: Collection[str] = ()) -> list[Track]:
    """Clips of a dataset without those of the names (up to the first "-") in `leave_out`; errors as `tracked_clips`."""
    tracks = []
    for folder, landmarks in tracked_clips(dataset)[1]:
        if folder.name.split("-")[0] not in leave_out:
            faces, mel = np.stack([Placement.of(one).removed(one) for one in landmarks]), folder / record.MEL_FILE
            tracks.append(Track(folder.name, faces, np.load(mel) if mel.exists() else np.full((80, 1), SILENCE)))
    if not tracks:
        raise InputError(f"no clip of {dataset} is left without {', '.join(leave_out)}")
    return tracks


def fit_shapes(clips: list[Track]) -> Float[np.ndarray, "2 478 3"]:
    """Regress the points on opening and width, all clips weighted alike."""
    left, right = 1e-6 * np.eye(2), np.zeros((2, 478 * 3))  # regularised for mouths of constant width
    for clip in clips:
        numbers = mouth_numbers(clip.faces)
        shut = numbers[:, 0] <= np.percentile(numbers[:, 0], 20)
        a = numbers - numbers[shut].mean(0)
        b = (clip.faces - clip.faces[shut].mean(0)).reshape(len(a), -1)
        left += a.T @ a / len(a)
        right += a.T @ b / len(a)
    return np.linalg.solve(left, right).reshape(2, 478, 3).astype(np.float32)


def targets(clip: Track) -> tuple[Float[np.ndarray, "t 2"], Float[np.ndarray, "2"]]:
    """Opening above the clip's least and width about its median, in units of the clip's range; and that range."""
    numbers = mouth_numbers(clip.faces)
    low, high = np.percentile(numbers, 10, 0), np.percentile(numbers, 90, 0)
    unit = np.maximum(high - low, _RANGE)
    about = np.array([low[0], np.median(numbers[:, 1])])
    return ((numbers - about) / unit).clip(-1, 2).astype(np.float32), unit


def _examples(clips: list[Track], random: np.random.Generator | None = None) -> tuple[Any, Any]:
    """Features and targets; `random` shifts the bands and scales and shifts the levels of each clip."""
    x, y = [], []
    for clip in clips:
        mel = clip.mel
        if random is not None:
            mel = np.roll(mel, random.integers(-4, 5), 0) * random.uniform(0.85, 1.15) + 0.2 * random.normal()
        x.append(features(mel, np.arange(len(clip.faces))))
        y.append(targets(clip)[0])
    return np.concatenate(x), np.concatenate(y)


def fit_network(clips: list[Track], seed: int = 0) -> tuple[Any, Any, Any]:
    """Train (mean, spread, layers) of `SpokenMouth`."""
    import jax
    import jax.numpy as jnp
    import optax

    random = np.random.default_rng(seed)
    x, _ = _examples(clips)
    mean, spread = x.mean(0), x.std(0) + 1e-3
    sizes = (x.shape[1], *_HIDDEN, 2)
    layers = [
        (jnp.asarray(random.normal(0, (2 / a) ** 0.5, (a, b)), jnp.float32), jnp.zeros(b))
        for a, b in itertools.pairwise(sizes)
    ]
    optimiser = optax.adamw(optax.cosine_decay_schedule(2e-3, _ROUNDS * _STEPS), weight_decay=0.05)
    state = optimiser.init(layers)

    @jax.jit
    def step(layers: Any, state: Any, x: Any, y: Any, key: Any) -> Any:
        def loss(layers: Any) -> Any:
            h = x
            for i, (kernel, bias) in enumerate(layers):
                kept = 0.7 if i else 0.9
                h = h * jax.random.bernoulli(jax.random.fold_in(key, i), kept, h.shape) / kept
                h = (jax.nn.relu(h) if i else h) @ kernel + bias
            return ((h - y) ** 2).mean()

        updates, state = optimiser.update(jax.grad(loss)(layers), state, layers)
        return optax.apply_updates(layers, updates), state

    key = jax.random.key(seed)
    for round_ in range(_ROUNDS):
        x, y = _examples(clips, random)
        x = (x - mean) / spread
        for i in range(_STEPS):
            some = random.integers(0, len(x), _BATCH)
            layers, state = step(layers, state, x[some], y[some], jax.random.fold_in(key, round_ * _STEPS + i))
    return mean, spread, tuple((np.asarray(kernel), np.asarray(bias)) for kernel, bias in layers)


def fit(clips: list[Track], gain: float = 1.0, seed: int = 0) -> SpokenMouth:
    """Fit shapes and network. The network underestimates motion: unseen identities' lips are nearest at a gain of 1.5.

    Raises InputError where no clip has sound.
    """
    audible = [clip for clip in clips if clip.audible]
    if not audible:
        raise InputError("no clip has sound")
    usual = np.median([targets(clip)[1] for clip in audible], 0)
    return SpokenMouth(*fit_network(audible, seed), (gain * usual).astype(np.float32), fit_shapes(clips))


def correlations(mouth: SpokenMouth, clips: list[Track], late: int = 0) -> dict[str, float]:
    """Correlation of the predicted opening, delayed by `late` frames, with the tracked one, by clip."""
    result = {}
    for clip in clips:
        if clip.audible:
            predicted = np.roll(mouth.numbers(clip.mel, np.arange(len(clip.faces)))[:, 0], late)
            result[clip.name] = float(np.corrcoef(predicted, mouth_numbers(clip.faces)[:, 0])[0, 1])
    return result


@standard_streams("experiments.fit_spoken_mouth")
def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.fit_spoken_mouth",
        description="Fit the audio-driven mouth.",
        epilog="example:\n  python -m experiments.fit_spoken_mouth clips mouth.npz --held-out held-out",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("dataset", type=pathlib.Path, metavar="DATASET", help="a prepared folder of clips")
    parser.add_argument("output", type=pathlib.Path, metavar="OUT.npz")
    parser.add_argument("--held-out", type=pathlib.Path, metavar="DATASET", help="clips for measurement")
    parser.add_argument("--leave-out", nargs="*", default=[], metavar="CLIP", help="clips whose sound is not theirs")
    parser.add_argument("--gain", type=float, default=1.0, help="of motion (default: %(default)s; the shipped one 1.5)")
    options = parser.parse_args(argv)

    def run() -> None:
        mouth = fit(read_tracks(options.dataset, options.leave_out), options.gain)
        with atomic_file(options.output, overwrite=True) as scratch:
            mouth.save(scratch)
        for name, folder in (("fitted on", options.dataset), ("held out", options.held_out)):
            if folder is not None:
                clips = read_tracks(folder, options.leave_out)
                true, late = (correlations(mouth, clips, n) for n in (0, 25))
                means = [np.mean(list(one.values())) for one in (true, late)]
                print(f"{name}: {len(true)} clips, correlation {means[0]:.3f}; a second late {means[1]:.3f}")

    return run_program(run)


if __name__ == "__main__":
    sys.exit(main())

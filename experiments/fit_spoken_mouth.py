"""Fit the mouth that a sound asks for: `python -m experiments.fit_spoken_mouth DATASET OUT.npz --held-out DATASET`.

DATASET is a folder that `python -m data.clip_folder` prepared. Clips whose sound is not the person's, or not in time
with the picture, teach the wrong thing: name them after --leave-out. Shapes: regression of the mesh, its pose removed,
on how far the lips are apart and how wide the mouth is. Network: a perceptron on the sound around a frame, trained on
opening and width in units of each clip's own range, levels and bands disturbed.

Expected: a correlation of 0.35 between the opening that is heard and the one that is seen, on people that nothing was
fitted on, with two minutes of eighteen people. Time: half a minute on one core.
"""

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
from avfr_jax.typing import Float
from experiments.harness import run_program

_HIDDEN = (64, 32)
_ROUNDS, _STEPS, _BATCH = 16, 100, 256
_RANGE = 0.3  # centimetres that a mouth opens at least, for its own range to be told
_HEARD = 0.02  # share of a spectrogram above the floor, for there to be sound


class Track(NamedTuple):
    """A clip: its name, faces without their pose in centimetres, and its spectrogram."""

    name: str
    faces: Float[np.ndarray, "t 478 3"]
    mel: Float[np.ndarray, "80 m"]

    @property
    def heard(self) -> bool:
        return float((self.mel > SILENCE + 0.1).mean()) > _HEARD


def tracks(dataset: pathlib.Path, leave_out: Collection[str] = ()) -> list[Track]:
    """The clips of a dataset whose face is seen throughout. InputError if there is none."""
    found = []
    for path in sorted(dataset.glob("clips/*/landmarks.npy")):
        landmarks, mel = np.load(path), path.with_name("mel.npy")
        if path.parent.name.split("-")[0] in leave_out or not np.isfinite(landmarks).all():
            continue
        faces = np.stack([Placement.of(one).removed(one) for one in landmarks])
        found.append(Track(path.parent.name, faces, np.load(mel) if mel.exists() else np.full((80, 1), SILENCE)))
    if not found:
        raise InputError(f"no clip of {dataset} shows a face from its first frame to its last")
    return found


def fit_shapes(clips: list[Track]) -> Float[np.ndarray, "2 478 3"]:
    """How the points move with opening and width, all clips counting alike."""
    left, right = 1e-6 * np.eye(2), np.zeros((2, 478 * 3))  # a mouth whose width stays tells nothing of it
    for clip in clips:
        numbers = mouth_numbers(clip.faces)
        shut = numbers[:, 0] <= np.percentile(numbers[:, 0], 20)
        a = numbers - numbers[shut].mean(0)
        b = (clip.faces - clip.faces[shut].mean(0)).reshape(len(a), -1)
        left += a.T @ a / len(a)
        right += a.T @ b / len(a)
    return np.linalg.solve(left, right).reshape(2, 478, 3).astype(np.float32)


def targets(clip: Track) -> tuple[Float[np.ndarray, "t 2"], Float[np.ndarray, "2"]]:
    """Opening above the clip's least and width about its middle, in units of the clip's range; that range."""
    numbers = mouth_numbers(clip.faces)
    low, high = np.percentile(numbers, 10, 0), np.percentile(numbers, 90, 0)
    unit = np.maximum(high - low, _RANGE)
    about = np.array([low[0], np.median(numbers[:, 1])])
    return ((numbers - about) / unit).clip(-1, 2).astype(np.float32), unit


def _examples(clips: list[Track], random: np.random.Generator | None = None) -> tuple[Any, Any]:
    """Features and targets; `random` shifts the bands, and stretches and shifts the levels, of each clip."""
    x, y = [], []
    for clip in clips:
        mel = clip.mel
        if random is not None:
            mel = np.roll(mel, random.integers(-4, 5), 0) * random.uniform(0.85, 1.15) + 0.2 * random.normal()
        x.append(features(mel, np.arange(len(clip.faces))))
        y.append(targets(clip)[0])
    return np.concatenate(x), np.concatenate(y)


def fit_network(clips: list[Track], seed: int = 0) -> tuple[Any, Any, Any]:
    """(mean, spread, layers), see `SpokenMouth`."""
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
    """The mouth of these clips, moving `gain` times as much as the network says, which moves too little: a stranger's
    lips are nearest at a gain of 1.5.

    Raises InputError where no clip has sound.
    """
    heard = [clip for clip in clips if clip.heard]
    if not heard:
        raise InputError("no clip has sound")
    usual = np.median([targets(clip)[1] for clip in heard], 0)
    return SpokenMouth(*fit_network(heard, seed), (gain * usual).astype(np.float32), fit_shapes(clips))


def correlations(mouth: SpokenMouth, clips: list[Track], late: int = 0) -> dict[str, float]:
    """Of the opening that is heard, so many frames late, with the one that is seen."""
    found = {}
    for clip in clips:
        if clip.heard:
            heard = np.roll(mouth.numbers(clip.mel, np.arange(len(clip.faces)))[:, 0], late)
            found[clip.name] = float(np.corrcoef(heard, mouth_numbers(clip.faces)[:, 0])[0, 1])
    return found


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m experiments.fit_spoken_mouth", description=__doc__.split("\n")[0])
    parser.add_argument("dataset", type=pathlib.Path, metavar="DATASET", help="a prepared folder of clips")
    parser.add_argument("output", type=pathlib.Path, metavar="OUT.npz")
    parser.add_argument("--held-out", type=pathlib.Path, metavar="DATASET", help="clips to be measured on")
    parser.add_argument("--leave-out", nargs="*", default=[], metavar="CLIP", help="clips whose sound is not theirs")
    parser.add_argument("--gain", type=float, default=1.0, help="of motion (default: %(default)s; the shipped one 1.5)")
    options = parser.parse_args(argv)

    def run() -> None:
        mouth = fit(tracks(options.dataset, options.leave_out), options.gain)
        with atomic_file(options.output, overwrite=True) as scratch:
            mouth.save(scratch)
        for name, folder in (("fitted on", options.dataset), ("held out", options.held_out)):
            if folder is not None:
                clips = tracks(folder, options.leave_out)
                true, late = (correlations(mouth, clips, n) for n in (0, 25))
                means = [np.mean(list(found.values())) for found in (true, late)]
                print(f"{name}: {len(true)} clips, correlation {means[0]:.3f}; a second late {means[1]:.3f}")

    return run_program(run)


if __name__ == "__main__":
    sys.exit(main())

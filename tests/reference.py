"""Reading the reference numbers: arrays by name, channels last, and weights from the numpy rule."""

import json
import pathlib
import re
import zlib

import numpy as np

_FACTORS = ((r"^kp\.weight$", 0.3), (r"^final\.weight$", 0.1), (r"\.norm3\.weight$", 0.2), (r"\.bn3\.weight$", 0.2),
            (r"^fc_(t|exp)\.weight$", 0.1))  # fmt: skip


def channels_last(x: np.ndarray) -> np.ndarray:
    return np.moveaxis(x, 1, -1)


def rule_weight(key: str, shape: list[int], seed: int = 0, jacobian_side: int = 2) -> np.ndarray:
    """One entry of a state dictionary by the rule of the reference numbers' README."""
    rng = np.random.default_rng([seed, zlib.crc32(key.encode())])
    parts = key.split(".")
    fan_in = int(np.prod(shape[1:])) if len(shape) > 1 else 1
    if parts[-1] == "num_batches_tracked":
        return np.ones((), np.int64)
    if parts[-1] == "running_mean":
        x = 0.1 * rng.standard_normal(shape)
    elif parts[-1] == "running_var":
        x = 0.5 + rng.random(shape)
    elif "jacobian" in parts and parts[-1] == "weight":
        x = 0.2 * np.sqrt(1 / fan_in) * rng.standard_normal(shape)
    elif "jacobian" in parts:
        eye = np.eye(jacobian_side).ravel()
        x = np.tile(eye, shape[0] // eye.size) + 0.1 * rng.standard_normal(shape)
    elif len(shape) >= 2:
        x = np.sqrt(2 / fan_in) * rng.standard_normal(shape)
    elif parts[-1] == "weight":
        x = 1 + 0.1 * rng.standard_normal(shape)
    else:
        x = 0.1 * rng.standard_normal(shape)
    x = x.astype(np.float32)
    for pattern, factor in _FACTORS:
        if re.search(pattern, key):
            x = (x.astype(np.float64) * factor).astype(np.float32)
    return x


def rule_states(manifest: pathlib.Path) -> dict[str, dict[str, np.ndarray]]:
    """State dictionaries of every network in a manifest, each checked against its sums; without anti-alias kernels and
    the vectors of spectral normalisation, which the rule does not draw."""
    stored = ("down.weight", "weight_u", "weight_v")
    content = json.loads(manifest.read_text())
    states = {}
    for network in [n for n in content if not n.endswith("_checks")]:
        states[network] = {k: rule_weight(k, s) for k, s in content[network] if not k.endswith(stored)}
        for key, (total, squares) in content[f"{network}_checks"].items():
            if key in states[network]:
                x = states[network][key].astype(np.float64)
                np.testing.assert_allclose([x.sum(), (x**2).sum()], [total, squares], rtol=1e-6, atol=1e-6)
    return states

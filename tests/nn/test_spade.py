"""SPADE blocks against the reference program's numbers."""

import re

import jax
import numpy as np
import pytest

from avfr_jax.convert.tree import to_variables
from avfr_jax.nn.spade import SpadeResBlock
from tests.reference import channels_last

CASES = {
    "instance_same": SpadeResBlock(16, norm="instance", spectral=True),
    "instance_shortcut": SpadeResBlock(24, norm="instance", spectral=True),
    "syncbatch_shortcut": SpadeResBlock(16, norm="batch", spectral=True),
}
NAMES = {"mlp_shared.0": "shared", "mlp_gamma": "gain", "mlp_beta": "bias", "param_free_norm": "norm"}


def rename(module):
    for theirs, ours in NAMES.items():
        module = module.replace(theirs, ours)
    return re.sub(r"(conv|norm)_s\b", r"\1_shortcut", module)


@pytest.fixture(scope="module", params=sorted(CASES))
def case(request, shared_dir):
    with np.load(shared_dir / "golden" / "spade_block.npz") as file:
        result = {k.split("/", 1)[1]: v for k, v in file.items() if k.startswith(f"{request.param}/")}
    before, after = (
        to_variables({k.removeprefix(part): v for k, v in result.items() if k.startswith(part)}, rename)
        for part in ("state/", "state_after_train/")
    )
    images = {k.removesuffix("_NCHW"): channels_last(v) for k, v in result.items() if k.endswith("_NCHW")}
    return CASES[request.param], before, after, images, result


@pytest.mark.shared
def test_evaluation_equals_the_reference(case):
    block, variables, _, images, _ = case
    got = block.apply(variables, images["x"], images["seg"])
    np.testing.assert_allclose(got, images["eval_output"], atol=2e-5)


@pytest.mark.shared
def test_training_equals_the_reference(case):
    block, variables, after, images, result = case
    state = {k: v for k, v in variables.items() if k != "params"}

    def run(params, x):
        return block.apply({**state, "params": params}, x, images["seg"], train=True, mutable=list(state))

    out, pull, new = jax.vjp(run, variables["params"], images["x"], has_aux=True)
    by_params, by_x = pull(np.asarray(channels_last(result["grad_output"])))
    np.testing.assert_allclose(out, images["train_output"], atol=2e-5)
    np.testing.assert_allclose(by_x, channels_last(result["train_grad_x"]), atol=1e-4)
    for got, want in zip(jax.tree.leaves(new), jax.tree.leaves({k: after[k] for k in new}), strict=True):
        np.testing.assert_allclose(got, want, atol=1e-5)
    norms = {k.removeprefix("train_gradnorm/"): float(v) for k, v in result.items() if k.startswith("train_gradnorm/")}
    for name, want in norms.items():
        module, _, leaf = name.rpartition(".")
        got = by_params
        for part in [*rename(module).split("."), "bias" if leaf == "bias" else "kernel"]:
            got = got[part]
        np.testing.assert_allclose(np.linalg.norm(got), want, rtol=1e-3, atol=1e-4, err_msg=name)
    assert len(norms) == len(jax.tree.leaves(by_params))

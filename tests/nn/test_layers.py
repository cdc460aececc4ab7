import jax
import jax.numpy as jnp
import numpy as np
import pytest

from avfr_jax.nn.layers import BatchNorm, Conv, InstanceNorm
from tests.reference import channels_last


@pytest.fixture(scope="module")
def misc(golden_dir):
    return np.load(golden_dir / "ops_misc.npz")


@pytest.mark.parametrize("name", ["bn2d", "bn3d"])
def test_batch_norm_equals_the_reference(misc, name):
    z = {k.split("/")[1]: v for k, v in misc.items() if k.startswith(f"{name}/")}
    variables = {
        "params": {"scale": z["weight"], "bias": z["bias"]},
        "batch_stats": {"mean": z["running_mean_before"], "var": z["running_var_before"]},
    }
    x, seed = channels_last(z["input"]), channels_last(z["grad_output"])
    np.testing.assert_allclose(BatchNorm().apply(variables, x), channels_last(z["eval_output"]), atol=1e-5)

    def run(params, x):
        return BatchNorm().apply({**variables, "params": params}, x, train=True, mutable=["batch_stats"])

    out, pull, after = jax.vjp(run, variables["params"], x, has_aux=True)
    by_params, by_x = pull(jnp.asarray(seed))
    np.testing.assert_allclose(out, channels_last(z["train_output"]), atol=1e-5)
    np.testing.assert_allclose(after["batch_stats"]["mean"], z["running_mean_after"], atol=1e-6)
    np.testing.assert_allclose(after["batch_stats"]["var"], z["running_var_after"], atol=1e-6)
    np.testing.assert_allclose(by_x, channels_last(z["grad_input"]), atol=1e-4)
    np.testing.assert_allclose(by_params["scale"], z["grad_weight"], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(by_params["bias"], z["grad_bias"], rtol=1e-4, atol=1e-4)


def test_instance_norm_equals_the_reference(misc):
    z = {k.split("/")[1]: v for k, v in misc.items() if k.startswith("in2d_affine/")}
    params = {"params": {"scale": z["weight"], "bias": z["bias"]}}
    x, seed = channels_last(z["input"]), channels_last(z["grad_output"])
    out, pull = jax.vjp(lambda p, x: InstanceNorm().apply(p, x), params, x)
    by_params, by_x = pull(jnp.asarray(seed))
    np.testing.assert_allclose(out, channels_last(z["train_output"]), atol=1e-5)
    np.testing.assert_allclose(by_x, channels_last(z["grad_input"]), atol=1e-4)
    np.testing.assert_allclose(by_params["params"]["scale"], z["grad_weight"], rtol=1e-4, atol=1e-4)


def test_spectral_norm_equals_the_reference(misc):
    z = {k.split("/")[1]: v for k, v in misc.items() if k.startswith("sn/")}
    kernel = np.moveaxis(z["weight_orig_OIHW"], (0, 1), (-1, -2))
    variables = {
        "params": {"kernel": kernel, "bias": z["bias"]},
        "spectral": {"u": z["u_before"], "v": z["v_before"]},
    }
    conv, x = Conv(7, (3, 3), spectral=True), channels_last(z["input_NCHW"])
    np.testing.assert_allclose(conv.apply(variables, x), channels_last(z["eval_output_before"]), atol=1e-5)
    out, after = conv.apply(variables, x, train=True, mutable=["spectral"])
    np.testing.assert_allclose(out, channels_last(z["train_output"]), atol=1e-5)
    np.testing.assert_allclose(after["spectral"]["u"], z["u_after"], atol=1e-5)
    np.testing.assert_allclose(after["spectral"]["v"], z["v_after"], atol=1e-5)
    later = conv.apply({**variables, **after}, x)
    np.testing.assert_allclose(later, channels_last(z["eval_output_after"]), atol=1e-5)


def test_initial_weights_fill_pytorchs_default_range():
    variables = Conv(64, (3, 3), 1).init(jax.random.key(0), jnp.zeros((1, 8, 8, 32)))
    bound = 1 / np.sqrt(32 * 9)
    for leaf in jax.tree.leaves(variables):
        assert 0.9 * bound < float(jnp.abs(leaf).max()) <= bound


def test_batch_norm_over_shards_has_the_statistics_of_the_whole_batch():
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    spec = jax.sharding.PartitionSpec
    x = jax.random.normal(jax.random.key(1), (16, 4, 4, 3)) * 3 + 1
    variables = BatchNorm().init(jax.random.key(0), x)

    def whole(variables, x):
        return BatchNorm().apply(variables, x, train=True, mutable=["batch_stats"])

    def shard(variables, x):
        return BatchNorm("data").apply(variables, x, train=True, mutable=["batch_stats"])

    want, stats = whole(variables, x)
    split = jax.shard_map(shard, mesh=mesh, in_specs=(spec(), spec("data")), out_specs=(spec("data"), spec()))
    got, got_stats = split(variables, x)
    np.testing.assert_allclose(got, want, atol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), got_stats, stats)
    sharding = jax.sharding.NamedSharding(mesh, spec("data"))
    view, view_stats = jax.jit(whole)(variables, jax.device_put(x, sharding))
    np.testing.assert_allclose(view, want, atol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), view_stats, stats)

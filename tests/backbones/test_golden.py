"""VGG19, LPIPS and Hopenet against PyTorch's numbers, through the conversions that `avfr import` runs. Weights follow
the rule of `tests.reference`; LPIPS's linear heads are the published ones."""

import json

import jax
import numpy as np
import pytest

from avfr_jax.backbones import hopenet
from avfr_jax.backbones.lpips import BACKBONES, Lpips, lpips_stack
from avfr_jax.backbones.vgg import vgg19
from avfr_jax.convert.hopenet import to_hopenet_variables
from avfr_jax.convert.lpips import to_heads
from avfr_jax.convert.vgg import to_stack_variables
from tests.reference import channels_last, rule_weight

pytestmark = pytest.mark.shared


@pytest.fixture(scope="module")
def numbers(shared_dir):
    return np.load(shared_dir / "golden" / "backbones_io.npz")


def _variables(shared_dir, network, stack):
    """The rule's weights of a network, without its classifier, which no tap needs."""
    entries = json.loads((shared_dir / "golden" / "rule_manifest_metric_nets.json").read_text())[network]
    state = {key: rule_weight(key, shape) for key, shape in entries if key.startswith("features.")}
    return to_stack_variables(state, stack, "the rule")


def _near(got, want):
    """Within 1e-4 of the largest value: after a ReLU single values may be as near to zero as they like."""
    np.testing.assert_allclose(np.asarray(got), want, rtol=1e-4, atol=1e-4 * np.abs(want).max())


def _maps_are_equal(numbers, names, maps):
    """Each map's mean over space, and the channels of it that were kept."""
    for name, x in zip(names, maps, strict=True):
        np.testing.assert_allclose(x.mean((1, 2)), numbers[f"{name}_mean_HW_NC"], rtol=1e-4, atol=1e-6, err_msg=name)
        (kept,) = (k for k in numbers.files if k.startswith(name) and k.endswith("NCHW"))
        wanted = channels_last(numbers[kept])
        _near(x[..., : wanted.shape[-1]], wanted)


def test_vgg19_taps(numbers, shared_dir):
    stack = vgg19()
    maps = jax.jit(stack.apply)(_variables(shared_dir, "vgg19", stack), channels_last(numbers["input_NCHW_01"]))
    assert [x.shape[1:] for x in maps] == [(64, 64, 64), (32, 32, 128), (16, 16, 256), (8, 8, 512), (4, 4, 512)]
    _maps_are_equal(numbers, [f"vgg19_relu{i}_1" for i in range(1, 6)], maps)


@pytest.fixture(scope="module", params=["alex", "vgg"])
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def metric(kind, numbers, shared_dir):
    # The layout of the published files: lin0.model.1.weight [1, C, 1, 1].
    found, heads = to_heads({f"lin{i}.model.1.weight": numbers[f"lpips_{kind}_lin{i}_weight"] for i in range(5)}, "it")
    assert found == kind
    stack = lpips_stack(kind)
    return Lpips(stack, _variables(shared_dir, BACKBONES[kind], stack), [heads[f"lin{i}"] for i in range(5)])


def test_lpips_features_layers_and_value(kind, metric, numbers):
    a, b = (channels_last(numbers[f"{name}_NCHW_01"]) for name in ("input", "input2"))
    read = jax.jit(lambda metric, a, b: (metric.stack.apply(metric.variables, a), metric.layers(a, b), metric(a, b)))
    maps, layers, value = read(metric, a, b)
    _maps_are_equal(numbers, [f"lpips_{kind}_feat{i}" for i in range(5)], maps)
    for i in range(5):
        np.testing.assert_allclose(layers[i], numbers[f"lpips_{kind}_layer{i}_N"], rtol=1e-4)
    np.testing.assert_allclose(value, numbers[f"lpips_{kind}_value_N"], rtol=1e-4)


def test_lpips_of_pictures(kind, metric, shared_dir):
    pictures = np.load(shared_dir / "golden" / "metrics.npz")
    measure = jax.jit(lambda metric, a, b: metric.layers(a, b))
    distortions, count = (("noise", "blur", "jpeg15", "shift_gain"), 3) if kind == "alex" else (("blur",), 1)
    for distortion in distortions:
        a, b = (pictures[f"{name}_NHWC_uint8"][:count].astype(np.float32) / 255 for name in ("refs", distortion))
        layers, prefix = measure(metric, a, b), f"{distortion}/lpips_{kind}_rule_seed0"
        np.testing.assert_allclose(layers, pictures[f"{prefix}_layers_5N"][:, :count], rtol=1e-4)
        np.testing.assert_allclose(layers.sum(0), pictures[prefix][:count], rtol=1e-4)


@pytest.fixture(scope="module")
def pose_network(shared_dir):
    entries = json.loads((shared_dir / "golden" / "rule_manifest_fv2v_full.json").read_text())["hopenet"]
    state = {key: rule_weight(key, shape) for key, shape in entries} | {"fc_finetune.weight": np.zeros((3, 2051))}
    return hopenet.PoseNetwork(to_hopenet_variables(state, "the rule"))


def test_hopenet_logits(pose_network, shared_dir):
    reference = np.load(shared_dir / "golden" / "fv2v_full_rule_io.npz")
    images = channels_last(reference["hopenet_input_N3x224x224"].astype(np.float32))
    logits = jax.jit(hopenet.Hopenet().apply)(pose_network.variables, images)
    for i, name in enumerate(hopenet.ANGLES):
        _near(logits[:, i], reference[f"hopenet_{name}_logits"])


def test_hopenet_angles_of_images_of_another_size(pose_network, shared_dir):
    frames = np.load(shared_dir / "golden" / "fv2v_tiny_io.npz")["driving_NCHW"]
    reference = np.load(shared_dir / "golden" / "fv2v_tiny_losses_spade.npz")
    images = channels_last(frames)
    _near(hopenet.prepare(images), channels_last(reference["f32/hopenet_input_NCHW"]))
    wanted = np.stack([reference[f"f32/hopenet_{name}_degree"] for name in hopenet.ANGLES], axis=1)
    np.testing.assert_allclose(jax.jit(lambda net, x: net(x))(pose_network, images), wanted, atol=1e-3)

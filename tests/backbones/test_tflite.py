"""Every operator of the TFLite reader against a loop in NumPy, from files with known fields."""

import json
import struct

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from avfr_jax.backbones.tflite import load_graph, run, save_graph
from avfr_jax.errors import CheckpointError, ConfigError, InputError, MissingBackendError

pytest.importorskip("tflite")
from tests.backbones.tflite_builder import Builder

rng = np.random.default_rng(0)


def _random(*shape):
    return rng.normal(size=shape).astype(np.float32)


def _graph(path, kind, x, shape, constants=(), table="", fields=None, custom=b""):
    """A file of one operator, read back."""
    b = Builder()
    first = b.tensor("x", (1, *x.shape[1:]))
    rest = [b.tensor(f"c{i}", c.shape, c) for i, c in enumerate(constants)]
    out = b.tensor("y", shape)
    b.operator(kind, [first, *rest], out, table, fields, custom)
    return load_graph(b.write(path / "one.tflite", [first], [out]))


def _run(path, kind, x, shape, *args, **options):
    graph = _graph(path, kind, x, shape, *args, **options)
    (y,) = run(graph, graph.constants, x)
    assert y.shape == (len(x), *shape[1:])
    return np.asarray(y)


def _windows(x, taps, strides, same, fill, dilation=1):
    """Every window of x, [N, out h, out w, taps h, taps w, C], padded with `fill` as TensorFlow pads."""
    reach = [(t - 1) * dilation + 1 for t in taps]
    sizes = x.shape[1:3]
    if same:
        outs = [-(-size // stride) for size, stride in zip(sizes, strides, strict=True)]
        ends = [(out - 1) * s + r for out, s, r in zip(outs, strides, reach, strict=True)]
        missing = [max(end - size, 0) for end, size in zip(ends, sizes, strict=True)]
    else:
        outs = [(size - r) // s + 1 for size, r, s in zip(sizes, reach, strides, strict=True)]
        missing = [0, 0]
    padded = np.pad(x, [(0, 0), *((m // 2, m - m // 2) for m in missing), (0, 0)], constant_values=fill)
    windows = np.empty((len(x), *outs, *taps, x.shape[-1]), np.float64)
    for i, j in np.ndindex(*outs):
        top, left = i * strides[0], j * strides[1]
        windows[:, i, j] = padded[:, top : top + reach[0] : dilation, left : left + reach[1] : dilation]
    return windows


ACTIVATIONS = {0: lambda y: y, 1: lambda y: np.maximum(y, 0), 3: lambda y: np.clip(y, 0, 6)}


def _window_fields(same, strides, activation, dilation=None):
    fields = {"Padding": int(not same), "StrideH": strides[0], "StrideW": strides[1]}
    fields["FusedActivationFunction"] = activation
    return fields | ({"DilationHFactor": dilation, "DilationWFactor": dilation} if dilation else {})


@pytest.mark.parametrize(
    ("size", "taps", "strides", "same", "activation", "dilation"),
    [
        ((8, 9), (3, 3), (1, 1), True, 0, 1),
        ((8, 9), (3, 3), (2, 2), True, 1, 1),  # uneven padding: more behind than in front
        ((9, 7), (2, 5), (2, 1), False, 3, 1),
        ((5, 6), (1, 1), (1, 1), True, 0, 1),
        ((9, 9), (3, 3), (1, 1), True, 0, 2),
    ],
)
def test_convolutions(tmp_path, size, taps, strides, same, activation, dilation):
    x, kernel, bias = 3 * _random(2, *size, 3), _random(4, *taps, 3), _random(4)
    windows = _windows(x, taps, strides, same, 0, dilation)
    expected = ACTIVATIONS[activation](np.einsum("nhwijc,oijc->nhwo", windows, kernel) + bias)
    fields = _window_fields(same, strides, activation, dilation)
    got = _run(tmp_path, "CONV_2D", x, (1, *expected.shape[1:]), [kernel, bias], table="Conv2DOptions", fields=fields)
    np.testing.assert_allclose(got, expected, atol=1e-4)

    kernel, bias = _random(1, *taps, 3), _random(3)
    expected = ACTIVATIONS[activation](np.einsum("nhwijc,ijc->nhwc", windows, kernel[0]) + bias)
    fields |= {"DepthMultiplier": 1}
    got = _run(
        *(tmp_path, "DEPTHWISE_CONV_2D", x, (1, *expected.shape[1:]), [kernel, bias]),
        table="DepthwiseConv2DOptions",
        fields=fields,
    )
    np.testing.assert_allclose(got, expected, atol=1e-4)


def test_depthwise_with_a_multiplier(tmp_path):
    x, kernel, bias = _random(2, 6, 5, 3), _random(1, 3, 3, 6), _random(6)
    windows = _windows(x, (3, 3), (1, 1), True, 0)
    expected = np.einsum("nhwijc,ijcm->nhwcm", windows, kernel[0].reshape(3, 3, 3, 2)).reshape(2, 6, 5, 6) + bias
    fields = _window_fields(True, (1, 1), 0, 1) | {"DepthMultiplier": 2}
    got = _run(
        tmp_path, "DEPTHWISE_CONV_2D", x, (1, 6, 5, 6), [kernel, bias], table="DepthwiseConv2DOptions", fields=fields
    )
    np.testing.assert_allclose(got, expected, atol=1e-4)


@pytest.mark.parametrize(
    ("same", "strides", "taps"), [(True, (2, 2), (3, 3)), (False, (2, 1), (2, 2)), (False, (6, 7), (6, 7))]
)
def test_pools(tmp_path, same, strides, taps):
    x = _random(2, 6, 7, 3) - 2  # padding by zeros would be the largest value
    fields = _window_fields(same, strides, 0) | {"FilterHeight": taps[0], "FilterWidth": taps[1]}
    windows = _windows(x, taps, strides, same, np.nan)
    for kind, reduce in (("MAX_POOL_2D", np.nanmax), ("AVERAGE_POOL_2D", np.nanmean)):
        expected = reduce(windows, axis=(3, 4))
        got = _run(tmp_path, kind, x, (1, *expected.shape[1:]), table="Pool2DOptions", fields=fields)
        np.testing.assert_allclose(got, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("padding", "taps", "stride"), [(1, 2, 2), (1, 3, 2), (1, 4, 2), (2, 3, 2), (2, 2, 3), (1, 3, 1)]
)
def test_transposed_convolution_of_mediapipe(tmp_path, padding, taps, stride):
    """Its kernel is painted `stride` apart; SAME cuts the edges to size times stride."""
    x, kernel, bias = _random(2, 4, 5, 3), _random(2, taps, taps, 3), _random(2)
    full = np.zeros((2, 3 * stride + max(taps, stride), 4 * stride + max(taps, stride), 2))
    for i, j in np.ndindex(4, 5):
        paint = np.einsum("nc,oijc->nijo", x[:, i, j], kernel)
        full[:, i * stride : i * stride + taps, j * stride : j * stride + taps] += paint
    if padding == 1:
        cut = max(taps - stride, 0) // 2
        full = full[:, cut : cut + 4 * stride, cut : cut + 5 * stride]
    expected = full + bias
    got = _run(
        *(tmp_path, "Convolution2DTransposeBias", x, (1, *expected.shape[1:]), [kernel, bias]),
        custom=struct.pack("<3i", padding, stride, stride),
    )
    np.testing.assert_allclose(got, expected, atol=1e-4)


@pytest.mark.parametrize(("corners", "half"), [(False, False), (True, False), (False, True)])
@pytest.mark.parametrize("new", [(8, 10), (3, 2)])
def test_bilinear_resizing_in_its_three_conventions(tmp_path, corners, half, new):
    x = _random(2, 4, 5, 3)

    def place(i, size, count):
        at = i * size / count
        if corners or half:
            at = i * (size - 1) / (count - 1) if corners else (i + 0.5) * size / count - 0.5
        at = min(max(at, 0), size - 1)
        low = int(at)
        return low, min(low + 1, size - 1), at - low

    expected = np.empty((2, *new, 3))
    for p, q in np.ndindex(*new):
        (a, b, s), (c, d, t) = place(p, 4, new[0]), place(q, 5, new[1])
        top, bottom = x[:, a, c] * (1 - t) + x[:, a, d] * t, x[:, b, c] * (1 - t) + x[:, b, d] * t
        expected[:, p, q] = top * (1 - s) + bottom * s
    fields = {"AlignCorners": corners, "HalfPixelCenters": half}
    size = np.array(new, np.int32)
    got = _run(tmp_path, "RESIZE_BILINEAR", x, (1, *new, 3), [size], table="ResizeBilinearOptions", fields=fields)
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_elementwise_operators(tmp_path):
    x, slope = 4 * _random(2, 3, 4, 5), np.abs(_random(1, 1, 5))
    shape = (1, 3, 4, 5)
    expected = {
        "RELU": np.maximum(x, 0),
        "RELU6": np.clip(x, 0, 6),
        "LOGISTIC": 1 / (1 + np.exp(-x)),
        "HARD_SWISH": x * np.clip(x + 3, 0, 6) / 6,
    }
    for kind, value in expected.items():
        np.testing.assert_allclose(_run(tmp_path, kind, x, shape), value, atol=1e-6)
    np.testing.assert_allclose(_run(tmp_path, "PRELU", x, shape, [slope]), np.where(x > 0, x, slope * x), atol=1e-6)
    other, activation = _random(1, 1, 1, 5), {"FusedActivationFunction": 1}
    got = _run(tmp_path, "ADD", x, shape, [other], table="AddOptions", fields=activation)
    np.testing.assert_allclose(got, np.maximum(x + other, 0), atol=1e-6)
    got = _run(tmp_path, "MUL", x, shape, [other], table="MulOptions", fields=activation)
    np.testing.assert_allclose(got, np.maximum(x * other, 0), atol=1e-6)


def test_pad_reshape_and_concatenation(tmp_path):
    x = _random(2, 3, 4, 5)
    amounts = np.array([[0, 0], [1, 2], [0, 1], [0, 3]], np.int32)
    np.testing.assert_allclose(_run(tmp_path, "PAD", x, (1, 6, 5, 8), [amounts]), np.pad(x, amounts))
    # The file's batch is 1; ours is 2.
    shape = np.array([1, 12, 5], np.int32)
    np.testing.assert_allclose(_run(tmp_path, "RESHAPE", x, (1, 12, 5), [shape]), x.reshape(2, 12, 5))
    b = Builder()
    first, second, out = b.tensor("x", (1, 3, 4, 5)), b.tensor("z", (1, 3, 4, 2)), b.tensor("y", (1, 3, 4, 7))
    b.operator("CONCATENATION", [first, second], out, "ConcatenationOptions", {"Axis": 3})
    graph = load_graph(b.write(tmp_path / "two.tflite", [first, second], [out]))
    z = _random(2, 3, 4, 2)
    np.testing.assert_allclose(run(graph, graph.constants, [x, z])[0], np.concatenate([x, z], 3))


def _small_graph(path):
    """relu(conv(x)) + bias2, with float16 weights behind DEQUANTIZE; also a branch that leads nowhere."""
    b = Builder()
    x = b.tensor("x", (1, 4, 4, 2))
    kernel = b.tensor("half", (3, 3, 3, 2), _random(3, 3, 3, 2).astype(np.float16))
    wide, bias = b.tensor("wide", (3, 3, 3, 2)), b.tensor("bias", (3,), _random(3))
    inner, out, other = b.tensor("inner", (1, 4, 4, 3)), b.tensor("y", (1, 4, 4, 3)), b.tensor("other", (1, 4, 4, 3))
    b.operator("DEQUANTIZE", [kernel], wide)
    b.operator("CONV_2D", [x, wide, bias], inner, "Conv2DOptions", _window_fields(True, (1, 1), 1, 1))
    b.operator("LOGISTIC", [inner], other)
    b.operator("ADD", [inner, bias], out, "AddOptions", {"FusedActivationFunction": 0})
    return load_graph(b.write(path / "small.tflite", [x], [out]))


def test_taps_half_weights_and_gradients(tmp_path):
    graph = _small_graph(tmp_path)
    assert graph.inputs == ("x",)
    assert graph.outputs == ("y",)
    assert graph.constants["wide"].dtype == np.float32
    x = _random(3, 4, 4, 2)
    y, inner = run(graph, graph.constants, x, ("y", "inner"))
    np.testing.assert_allclose(y, inner + graph.constants["bias"], rtol=1e-6)
    step = jax.jit(run, static_argnums=(0, 3))
    np.testing.assert_allclose(step(graph, dict(graph.constants), x, ("inner",))[0], inner, rtol=1e-5)
    # Only what is asked for is computed: the constants of the rest are not even looked up.
    assert run(graph, {"wide": graph.constants["wide"], "bias": graph.constants["bias"]}, x, ("other",))[0].shape
    with pytest.raises(KeyError):
        run(graph, {"bias": graph.constants["bias"]}, x, ("inner",))
    gradient = jax.grad(lambda x: run(graph, graph.constants, x)[0].sum())(jnp.asarray(x))
    numeric = np.zeros_like(x)
    for index in [(0, 1, 2, 1), (2, 3, 0, 0)]:
        step_, up, down = 1e-2, x.copy(), x.copy()
        up[index] += step_
        down[index] -= step_
        difference = run(graph, graph.constants, up)[0].sum() - run(graph, graph.constants, down)[0].sum()
        numeric[index] = difference / (2 * step_)
        assert gradient[index] == pytest.approx(numeric[index], abs=2e-2)
    (low,) = run(graph, graph.constants, jnp.asarray(x, jnp.bfloat16))
    assert low.dtype == jnp.bfloat16
    with pytest.raises(ValueError, match="no tensor nowhere"):
        run(graph, graph.constants, x, ("nowhere",))


def test_copy_round_trip(tmp_path):
    graph = _small_graph(tmp_path)
    again = load_graph(save_graph(graph, tmp_path / "copies" / "small.json", {"source": "a test"}))
    assert again == graph
    assert hash(again) == hash(graph)
    assert again.constants.keys() == graph.constants.keys()
    assert all(np.array_equal(again.constants[n], graph.constants[n]) for n in graph.constants)
    with np.load(tmp_path / "copies" / "small.npz") as arrays:
        assert {arrays[n].dtype.name for n in arrays.files} == {"float16", "float32"}
    assert sorted(p.name for p in (tmp_path / "copies").iterdir()) == ["small.json", "small.npz"]


def test_damaged_copy_is_refused(tmp_path):
    path = save_graph(_small_graph(tmp_path), tmp_path / "small.json")
    values, arrays = json.loads(path.read_text()), path.with_suffix(".npz")
    path.write_text(json.dumps(values | {"format": 99}))
    with pytest.raises(CheckpointError, match="format 99"):
        load_graph(path)
    path.write_text(json.dumps(values))
    whole = arrays.read_bytes()
    arrays.write_bytes(whole[:-20] + bytes(20))
    with pytest.raises(CheckpointError, match="checksum differs"):
        load_graph(path)
    arrays.unlink()
    with pytest.raises(CheckpointError, match="damaged"):
        load_graph(path)
    path.write_text("{")
    with pytest.raises(CheckpointError, match="damaged"):
        load_graph(path)


def test_unknown_operators_are_named(tmp_path):
    x = _random(1, 2, 2, 1)
    with pytest.raises(ConfigError, match=r"one\.tflite uses the operator SIN,"):
        _graph(tmp_path, "SIN", x, (1, 2, 2, 1))
    with pytest.raises(ConfigError, match="operator Landmarks2TransformMatrix,"):
        _graph(tmp_path, "Landmarks2TransformMatrix", x, (1, 2, 2, 1), custom=b"abcd")
    with pytest.raises(ConfigError, match=r"'c0'.*quantised"):
        _graph(tmp_path, "ADD", x, (1, 2, 2, 1), [np.ones((1, 2, 2, 1), np.uint8)])
    fused = _graph(tmp_path, "ADD", x, (1, 2, 2, 1), [x], table="AddOptions", fields={"FusedActivationFunction": 4})
    with pytest.raises(ConfigError, match="activation TANH"):
        run(fused, fused.constants, x)


def test_files_of_other_kinds_are_refused(tmp_path):
    with pytest.raises(InputError, match="no network file"):
        load_graph(tmp_path / "none.tflite")
    path = tmp_path / "text.tflite"
    path.write_text("hello, this is no network")
    with pytest.raises(InputError, match=r"text\.tflite is not a TFLite file"):
        load_graph(path)
    _small_graph(tmp_path)
    whole = (tmp_path / "small.tflite").read_bytes()
    for keep in (9, 40, len(whole) // 2):
        path.write_bytes(whole[:keep])
        with pytest.raises(InputError, match="damaged"):
            load_graph(path)


def test_missing_schema_package_is_reported_with_the_remedy(tmp_path, monkeypatch):
    _small_graph(tmp_path)
    monkeypatch.setitem(__import__("sys").modules, "tflite", None)
    with pytest.raises(MissingBackendError, match="pip install tflite"):
        load_graph(tmp_path / "small.tflite")

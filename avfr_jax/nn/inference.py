"""Networks for inference: the modules that were trained, their weights folded and transformed once.

    prepared = prepare(module, variables, example)      # on the host, when a model is loaded
    frames = apply(module, prepared, frames)            # instead of module.apply(variables, frames)

`prepare` traces the module on examples and notes its convolutions and normalisations:

* batch normalisation directly behind a convolution of the same parent module is folded into it; elsewhere its fixed
  statistics become a gain and an offset;
* spectrally normalised kernels are divided by their largest singular values once;
* convolutions with large kernels and few outputs of the same input become one;
* on a CPU, kernels are transformed for the algorithms of `nn.fast` where these are quicker.

The results replace their parameters and statistics in the collection `prepared`; `apply` intercepts the layers that
have an entry there.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from avfr_jax.nn import fast, fast_volumes
from avfr_jax.nn.blocks import UpBlock
from avfr_jax.nn.layers import BatchNorm, Conv
from avfr_jax.ops.platform import kernels_for, on_cpu
from avfr_jax.typing import Array

COLLECTION = "prepared"
Variables = Mapping[str, Any]
_Path = tuple[str, ...]
_Layer = Callable[..., Any]
_MOST_OUTPUTS = 32  # of convolutions with large kernels that are computed as one


@dataclasses.dataclass
class _Plan:
    """Layers in the order of their calls.

    Attributes:
      convolutions: module, input and output of each.
      norms: every batch normalisation, with the convolution that it is folded into.
    """

    convolutions: dict[_Path, tuple[Conv, Any, Any]] = dataclasses.field(default_factory=dict)
    norms: dict[_Path, tuple[BatchNorm, _Path | None]] = dataclasses.field(default_factory=dict)

    def note(self, layer: _Layer, arguments: Any, named: Any, context: nn.module.InterceptorContext) -> Any:
        """Interceptor that notes a layer."""
        module, out = context.module, layer(*arguments, **named)
        if context.method_name == "__call__" and isinstance(module, BatchNorm):
            self.norms[module.path] = module, self._before(module.path, arguments[0])
        elif context.method_name == "__call__" and isinstance(module, Conv):
            self.convolutions[module.path] = module.clone(parent=None), arguments[0], out
        return out

    def _before(self, norm: _Path, x: Any) -> _Path | None:
        for path, (_, _, out) in self.convolutions.items():
            if out is x and path[:-1] == norm[:-1]:
                return path
        return None

    def groups(self) -> list[list[_Path]]:
        """Convolutions that are computed as one, the first of each group before the others; most are alone."""
        groups: list[list[_Path]] = []
        for path, (module, x, _) in self.convolutions.items():
            for group in groups:
                first, same, _ = self.convolutions[group[0]]
                features = module.features + sum(self.convolutions[p][0].features for p in group)
                if x is same and _alike(first, module) and features <= _MOST_OUTPUTS:
                    group.append(path)
                    break
            else:
                groups.append([path])
        return groups


def _alike(a: Conv, b: Conv) -> bool:
    kind = (a.kernel_size, a.padding, a.use_bias)
    return min(a.kernel_size) >= 5 and a.strides == b.strides == 1 and kind == (b.kernel_size, b.padding, b.use_bias)


def prepare(
    module: nn.Module,
    variables: Variables,
    *examples: Any,
    method: Any = None,
    reduce_arithmetic: bool | None = None,
    **named: Any,
) -> dict[str, Any]:
    """Fold and transform a network's weights, on the host.

    Args:
      module: the network.
      variables: its collections, float32.
      *examples: arguments of the call that reaches every layer, arrays or `jax.ShapeDtypeStruct`.
      method: of the module; `__call__` by default.
      reduce_arithmetic: transform kernels for fewer multiplications; by default where JAX computes on a CPU (an
        accelerator's plain convolutions are faster). Normalisations are folded in any case.
      **named: further arguments of the call.

    Returns:
      Collections for `apply`.
    """
    reduce = on_cpu() if reduce_arithmetic is None else reduce_arithmetic
    plan = _Plan()
    with nn.intercept_methods(plan.note):
        jax.eval_shape(lambda v, *x: module.apply(v, *x, method=method, **named), variables, *examples)
    flat = {name: flatten_dict(dict(tree)) for name, tree in variables.items()}
    taken: dict[_Path, Any] = {}

    def take(collection: str, *path: str) -> np.ndarray:
        return np.asarray(flat[collection].pop(path), np.float64)

    affine = {}
    for path, (norm, _) in plan.norms.items():
        mean, var = (take("batch_stats", *path, name) for name in ("mean", "var"))
        scale, beta = np.ones_like(mean), np.zeros_like(mean)
        if norm.affine:
            scale, beta = (take("params", *path, name) for name in ("scale", "bias"))
        affine[path] = fast.batch_norm_affine(scale, beta, mean, var, norm.epsilon)
    folded = {before: affine[path] for path, (_, before) in plan.norms.items() if before}
    for path, (_, before) in plan.norms.items():
        if before is None:
            taken[*path, "gain"], taken[*path, "offset"] = affine[path]
    for group in plan.groups():
        kernels, biases = [], []
        for path in group:
            conv, _, _ = plan.convolutions[path]
            kernel = take("params", *path, "kernel")
            if conv.spectral:
                kernel = kernel / _largest(kernel, take("spectral", *path, "u"), take("spectral", *path, "v"))
            bias = take("params", *path, "bias") if conv.use_bias else np.zeros(kernel.shape[-1])
            gain, offset = folded.get(path, (1.0, 0.0))
            kernels.append(kernel * gain)
            biases.append(bias * gain + offset)
        first = plan.convolutions[group[0]][0]
        places = int(np.prod(plan.convolutions[group[0]][1].shape[1:-1]))
        kernel = _transformed(first, np.concatenate(kernels, axis=-1), reduce, places)
        # Layer by layer, so that the network never lies in memory in float64.
        taken[*group[0], "kernel"] = jax.tree.map(_float32, kernel)
        taken[*group[0], "bias"] = np.concatenate(biases)
    rest = {name: unflatten_dict(tree) for name, tree in flat.items() if tree}
    prepared: dict[str, Any] = jax.tree.map(_float32, {**rest, COLLECTION: unflatten_dict(taken)})
    return prepared


def _float32(x: Any) -> Array:
    return jnp.asarray(x, jnp.float32)


def _largest(kernel: np.ndarray, u: np.ndarray, v: np.ndarray) -> Any:
    """The largest singular value of a kernel by its vectors, see `Conv`."""
    return u @ np.moveaxis(kernel, (-1, -2), (0, 1)).reshape(len(u), -1) @ v


def _transformed(conv: Conv, kernel: np.ndarray, reduce: bool, places: int) -> Any:
    """A kernel for the quickest algorithm on that many pixels: a plain array or one of the kernels of `nn.fast`."""
    sides, (inputs, outputs) = kernel.shape[:-2], kernel.shape[-2:]
    if not reduce or len(sides) == 1 or conv.strides != 1:
        return kernel
    if sides == (3, 3, 3) and conv.padding in (1, (1, 1, 1)):
        if conv.upsample > 1:
            return fast_volumes.volume_upsample_kernel(kernel)
        return fast_volumes.volume_winograd_kernel(kernel) if worth_winograd(inputs, outputs, places) else kernel
    if len(sides) == 3:
        return kernel
    if sides == (3, 3) and conv.padding in (1, (1, 1)):
        if conv.upsample > 1:
            return fast.upsample_kernel(kernel)
        return fast.winograd_kernel(kernel) if worth_winograd(inputs, outputs, places) else kernel
    if min(sides) >= 5 and 4 <= outputs <= _MOST_OUTPUTS and isinstance(conv.padding, int):
        return fast.tap_kernel(kernel)
    return kernel


def worth_winograd(inputs: int, outputs: int, places: int) -> bool:
    """Whether the transform pays: its cost is a channel's, its gain a pair of channels'. On few pixels reading four
    times the weights costs more than the products, which matters for kernels of many channels."""
    return min(inputs, outputs) >= 64 and (max(inputs, outputs) <= 256 or places >= 1024)


def apply(module: nn.Module, variables: Variables, *arguments: Any, method: Any = None, **named: Any) -> Any:
    """`module.apply` on what `prepare` returned; on a network's own variables the plain `module.apply`.

    To be traced under `jax.jit`.
    """
    if COLLECTION not in variables:
        return module.apply(dict(variables), *arguments, method=method, **named)
    with kernels_for("inference"), nn.intercept_methods(_Interceptor()):
        return module.apply(dict(variables), *arguments, method=method, **named)


class _Interceptor:
    """Layers on prepared weights. Holds the outputs of grouped convolutions until their own modules are called."""

    def __init__(self) -> None:
        self._waiting: list[tuple[Any, Any]] = []

    def __call__(self, layer: _Layer, arguments: Any, named: Any, context: nn.module.InterceptorContext) -> Any:
        module = context.module
        if context.method_name == "__call__":
            if isinstance(module, BatchNorm):
                if _is_prepared(module, "mean"):
                    return self._normalise(module, arguments[0])
                return layer(*arguments, **named)
            if isinstance(module, Conv) and _is_prepared(module, "kernel"):
                return self._convolve(module, arguments[0])
            if isinstance(module, UpBlock) and _is_prepared(module.conv, "kernel"):
                kernel: Any = module.conv.get_variable(COLLECTION, "kernel")
                bias: Any = module.conv.get_variable(COLLECTION, "bias")
                if isinstance(kernel, fast.UpsampleKernel):
                    return fast.upsample_conv3x3(arguments[0], kernel, bias, relu=True)
                if isinstance(kernel, fast_volumes.VolumeUpsampleKernel):
                    return fast_volumes.upsample_conv3x3x3(arguments[0], kernel, bias, relu=True)
        return layer(*arguments, **named)

    def _normalise(self, module: BatchNorm, x: Array) -> Array:
        if not module.has_variable(COLLECTION, "gain"):
            return x  # folded
        return x * module.get_variable(COLLECTION, "gain") + module.get_variable(COLLECTION, "offset")

    def _convolve(self, module: Conv, x: Array) -> Any:
        if module.has_variable(COLLECTION, "kernel"):
            outputs = _convolved(module, x, module.get_variable(COLLECTION, "kernel"))
            outputs = outputs + module.get_variable(COLLECTION, "bias")
        else:
            at = next(i for i, (given, _) in enumerate(self._waiting) if given is x)
            outputs = self._waiting.pop(at)[1]
        if outputs.shape[-1] > module.features:
            self._waiting.append((x, outputs[..., module.features :]))
        return outputs[..., : module.features]


def _is_prepared(module: nn.Module, variable: str) -> bool:
    """Whether a layer's own variable was folded, transformed or grouped away."""
    collection = "batch_stats" if variable == "mean" else "params"
    return not module.has_variable(collection, variable)


def _convolved(module: Conv, x: Array, kernel: Any) -> Any:
    if isinstance(kernel, fast.WinogradKernel):
        return fast.conv3x3_winograd(x, kernel)
    if isinstance(kernel, fast.TapKernel):
        assert isinstance(module.padding, int)
        return fast.conv_few_outputs(x, kernel, module.padding)
    if isinstance(kernel, fast.UpsampleKernel):
        return fast.upsample_conv3x3(x, kernel, factor=module.upsample)
    if isinstance(kernel, fast_volumes.VolumeUpsampleKernel):
        return fast_volumes.upsample_conv3x3x3(x, kernel, factor=module.upsample)
    if isinstance(kernel, fast_volumes.VolumeWinogradKernel):
        return fast_volumes.conv3x3x3_winograd(x, kernel)
    return module.convolve(x, kernel)


def frame_by_frame(function: Callable[..., Any], shared: Any, *each: Any) -> Any:
    """A function of N frames, on a CPU one frame at a time: its activations then stay in the cache from layer to layer.

    Args:
      function: takes `shared` and `each`, gives a pytree of arrays of N frames.
      shared: a pytree of arrays for one frame, which serves all, or for N.
      each: pytrees of arrays for N frames.
    """
    n = jax.tree.leaves(each)[0].shape[0]
    if n == 1 or not on_cpu():
        return function(shared, *each)

    def one(index: Array) -> Any:
        def take(x: Array) -> Array:
            return x if x.shape[0] == 1 else jax.lax.dynamic_slice_in_dim(x, index, 1)

        return jax.tree.map(lambda x: x[0], function(*jax.tree.map(take, (shared, *each))))

    return jax.lax.map(one, jnp.arange(n))

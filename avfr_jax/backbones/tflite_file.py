"""Read a TFLite flatbuffer as a `Graph`, with the schema from the package `tflite`."""

import struct
from typing import Any

import numpy as np

from avfr_jax.backbones.tflite_graph import Graph, Operator, options
from avfr_jax.backbones.tflite_ops import OPERATORS
from avfr_jax.errors import ConfigError, MissingBackendError


def _option_fields(kind: str) -> tuple[str, dict[str, str]]:
    """The flatbuffer table of an operator's options and {our name: accessor} of the options in use."""
    window = {
        "padding": "Padding",
        "stride_h": "StrideH",
        "stride_w": "StrideW",
        "activation": "FusedActivationFunction",
    }
    conv = {**window, "dilation_h": "DilationHFactor", "dilation_w": "DilationWFactor"}
    pool = {**window, "window_h": "FilterHeight", "window_w": "FilterWidth"}
    return {
        "CONV_2D": ("Conv2DOptions", conv),
        "DEPTHWISE_CONV_2D": ("DepthwiseConv2DOptions", conv),
        "MAX_POOL_2D": ("Pool2DOptions", pool),
        "AVERAGE_POOL_2D": ("Pool2DOptions", pool),
        "ADD": ("AddOptions", {"activation": "FusedActivationFunction"}),
        "MUL": ("MulOptions", {"activation": "FusedActivationFunction"}),
        "CONCATENATION": ("ConcatenationOptions", {"axis": "Axis", "activation": "FusedActivationFunction"}),
        "RESIZE_BILINEAR": (
            "ResizeBilinearOptions", {"align_corners": "AlignCorners", "half_pixel": "HalfPixelCenters"},
        ),
    }.get(kind, ("", {}))  # fmt: skip


def _library() -> Any:
    try:
        import tflite
    except ImportError:
        raise MissingBackendError(
            "Reading a .tflite file needs the package tflite: run pip install tflite, or take the converted networks "
            "(avfr import mediapipe-nets on a machine that has it)."
        ) from None
    return tflite


def _names_of(enumeration: Any) -> dict[int, str]:
    return {value: name for name, value in vars(enumeration).items() if isinstance(value, int)}


class Reader:
    """Reader of the flatbuffer of one file."""

    def __init__(self, data: bytes, what: str) -> None:
        self.tflite, self.what = _library(), what
        self.model = self.tflite.Model.GetRootAsModel(data, 0)
        if self.model.SubgraphsLength() != 1:
            raise ConfigError(f"{what} holds {self.model.SubgraphsLength()} graphs; only files with one can be read.")
        self.graph = self.model.Subgraphs(0)
        self.builtin = _names_of(self.tflite.BuiltinOperator)
        self.activation = _names_of(self.tflite.ActivationFunctionType)
        self.names: list[str] = []
        for i in range(self.graph.TensorsLength()):
            name = self.graph.Tensors(i).Name().decode()
            self.names.append(name if name not in self.names else f"{name}:{i}")

    def tensor_shape(self, index: int) -> tuple[int, ...]:
        tensor = self.graph.Tensors(index)
        return tuple(int(n) for n in tensor.ShapeAsNumpy()) if tensor.ShapeLength() else ()

    def constants(self) -> tuple[dict[str, np.ndarray], dict[str, tuple[int, ...]]]:
        kinds = {0: np.float32, 1: np.float16, 2: np.int32, 4: np.int64}
        floats, integers = {}, {}
        for i, name in enumerate(self.names):
            tensor = self.graph.Tensors(i)
            buffer = self.model.Buffers(tensor.Buffer())
            if not buffer.DataLength():
                continue
            if tensor.Type() not in kinds or tensor.Sparsity() is not None:
                raise ConfigError(
                    f"{self.what} holds the constant {name!r} in a form that cannot be read here (quantised or sparse)."
                )
            array = np.frombuffer(buffer.DataAsNumpy().tobytes(), kinds[tensor.Type()]).reshape(self.tensor_shape(i))
            if array.dtype.kind == "i":
                integers[name] = tuple(int(v) for v in array.ravel())
            else:
                floats[name] = array.astype(np.float32)
        return floats, integers

    def operator(self, index: int) -> Operator:
        op = self.graph.Operators(index)
        code = self.model.OperatorCodes(op.OpcodeIndex())
        kind = self.builtin[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())]
        chosen: dict[str, Any] = {}
        if kind == "CUSTOM":
            kind = code.CustomCode().decode()
            chosen = self.custom_options(kind, op)
        table, fields = _option_fields(kind)
        if table and (found := op.BuiltinOptions()) is not None:
            values = getattr(self.tflite, table)()
            values.Init(found.Bytes, found.Pos)
            chosen = {name: getattr(values, accessor)() for name, accessor in fields.items()}
        if "padding" in chosen:
            chosen["padding"] = ("SAME", "VALID")[chosen["padding"]]
        if "activation" in chosen:
            chosen["activation"] = self.activation[chosen["activation"]]
        inputs = tuple(self.names[i] for i in op.InputsAsNumpy().tolist() if i >= 0)
        if kind == "RESHAPE":  # the new shape may stand in a tensor, in the options, or only in the output's shape
            inputs, chosen = inputs[:1], {"shape": self.tensor_shape(op.OutputsAsNumpy()[0])}
        outputs = tuple(self.names[i] for i in op.OutputsAsNumpy().tolist())
        if kind not in OPERATORS and kind != "DEQUANTIZE":
            known = ", ".join(sorted(OPERATORS))
            raise ConfigError(f"{self.what} uses the operator {kind}, which is not known here (known: {known}).")
        return Operator(kind, inputs, outputs, options(chosen))

    def custom_options(self, kind: str, op: Any) -> dict[str, Any]:
        """Options of mediapipe's transposed convolution: the C struct {padding, stride width, stride height}."""
        if kind != "Convolution2DTransposeBias":
            return {}
        # The enumeration inside the struct is the runtime's own: 1 is SAME, 2 VALID.
        padding, width, height = struct.unpack("<3i", op.CustomOptionsAsNumpy().tobytes()[:12])
        return {"padding": padding - 1, "stride_w": width, "stride_h": height}

    def read(self) -> Graph:
        constants, integers = self.constants()
        operators = []
        for index in range(self.graph.OperatorsLength()):
            op = self.operator(index)
            if op.kind == "DEQUANTIZE":
                if op.inputs[0] not in constants:
                    raise ConfigError(f"{self.what} converts {op.inputs[0]!r} while it runs; only constants can be.")
                constants[op.outputs[0]] = constants[op.inputs[0]]
            else:
                operators.append(op)
        used = {name for op in operators for name in op.inputs}
        made = {name for op in operators for name in op.outputs}
        inputs = tuple(self.names[i] for i in self.graph.InputsAsNumpy().tolist())
        outputs = tuple(self.names[i] for i in self.graph.OutputsAsNumpy().tolist())
        shapes = {n: self.tensor_shape(i) for i, n in enumerate(self.names) if n in made or n in inputs}
        return Graph(
            tuple(operators),
            inputs,
            outputs,
            tuple(shapes.items()),
            tuple((n, v) for n, v in integers.items() if n in used),
            {n: v for n, v in constants.items() if n in used},
        )

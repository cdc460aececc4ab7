"""TFLite files of one operator with known fields, for tests of the reader."""

import pathlib
from typing import Any

import flatbuffers
import numpy as np
import tflite

_TYPES = {"float32": 0, "float16": 1, "int32": 2, "uint8": 3}


def _vector(builder: Any, start: Any, offsets: list[int]) -> int:
    start(builder, len(offsets))
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return builder.EndVector()


def _options(builder: Any, table: str, fields: dict[str, Any]) -> int:
    getattr(tflite, f"{table}Start")(builder)
    for name, value in fields.items():
        getattr(tflite, f"{table}Add{name}")(builder, value)
    return getattr(tflite, f"{table}End")(builder)


def _tensor(builder: Any, name: str, shape: tuple[int, ...], dtype: str, buffer: int) -> int:
    label, dims = builder.CreateString(name), builder.CreateNumpyVector(np.array(shape, np.int32))
    tflite.TensorStart(builder)
    tflite.TensorAddShape(builder, dims)
    tflite.TensorAddType(builder, _TYPES[dtype])
    tflite.TensorAddBuffer(builder, buffer)
    tflite.TensorAddName(builder, label)
    return tflite.TensorEnd(builder)


class Builder:
    """Collects tensors and operators, then writes the file."""

    def __init__(self) -> None:
        self.builder = flatbuffers.Builder(1024)
        self.tensors: list[int] = []
        self.buffers: list[int] = []
        self.codes: list[int] = []
        self.operators: list[int] = []
        self._buffer(None)

    def _buffer(self, data: np.ndarray | None) -> int:
        vector = None if data is None else self.builder.CreateNumpyVector(np.frombuffer(data.tobytes(), np.uint8))
        tflite.BufferStart(self.builder)
        if vector is not None:
            tflite.BufferAddData(self.builder, vector)
        self.buffers.append(tflite.BufferEnd(self.builder))
        return len(self.buffers) - 1

    def tensor(self, name: str, shape: tuple[int, ...], data: np.ndarray | None = None, dtype: str = "float32") -> int:
        """Adds a tensor, constant if `data` is given; its number."""
        dtype = dtype if data is None else data.dtype.name
        buffer = 0 if data is None else self._buffer(data)
        self.tensors.append(_tensor(self.builder, name, shape, dtype, buffer))
        return len(self.tensors) - 1

    def operator(
        self,
        kind: str,
        inputs: list[int],
        output: int,
        table: str = "",
        fields: dict[str, Any] | None = None,
        custom: bytes = b"",
    ) -> None:
        """Adds an operator: a builtin kind by name, or a custom one (with its own option bytes)."""
        b = self.builder
        known = getattr(tflite.BuiltinOperator, kind, None)
        name = None if known is not None else b.CreateString(kind)
        tflite.OperatorCodeStart(b)
        code = tflite.BuiltinOperator.CUSTOM if known is None else known
        tflite.OperatorCodeAddDeprecatedBuiltinCode(b, min(code, 127))
        tflite.OperatorCodeAddBuiltinCode(b, code)
        if name is not None:
            tflite.OperatorCodeAddCustomCode(b, name)
        self.codes.append(tflite.OperatorCodeEnd(b))
        options = _options(b, table, fields or {}) if table else None
        extra = b.CreateNumpyVector(np.frombuffer(custom, np.uint8)) if custom else None
        ins, outs = (b.CreateNumpyVector(np.array(v, np.int32)) for v in (inputs, [output]))
        tflite.OperatorStart(b)
        tflite.OperatorAddOpcodeIndex(b, len(self.codes) - 1)
        tflite.OperatorAddInputs(b, ins)
        tflite.OperatorAddOutputs(b, outs)
        if options is not None:
            tflite.OperatorAddBuiltinOptionsType(b, getattr(tflite.BuiltinOptions, table))
            tflite.OperatorAddBuiltinOptions(b, options)
        if extra is not None:
            tflite.OperatorAddCustomOptions(b, extra)
        self.operators.append(tflite.OperatorEnd(b))

    def write(self, path: pathlib.Path, inputs: list[int], outputs: list[int]) -> pathlib.Path:
        """Writes the file."""
        b = self.builder
        tensors = _vector(b, tflite.SubGraphStartTensorsVector, self.tensors)
        operators = _vector(b, tflite.SubGraphStartOperatorsVector, self.operators)
        ins, outs = (b.CreateNumpyVector(np.array(v, np.int32)) for v in (inputs, outputs))
        tflite.SubGraphStart(b)
        tflite.SubGraphAddTensors(b, tensors)
        tflite.SubGraphAddInputs(b, ins)
        tflite.SubGraphAddOutputs(b, outs)
        tflite.SubGraphAddOperators(b, operators)
        graph = tflite.SubGraphEnd(b)
        graphs = _vector(b, tflite.ModelStartSubgraphsVector, [graph])
        codes = _vector(b, tflite.ModelStartOperatorCodesVector, self.codes)
        buffers = _vector(b, tflite.ModelStartBuffersVector, self.buffers)
        tflite.ModelStart(b)
        tflite.ModelAddVersion(b, 3)
        tflite.ModelAddOperatorCodes(b, codes)
        tflite.ModelAddSubgraphs(b, graphs)
        tflite.ModelAddBuffers(b, buffers)
        b.Finish(tflite.ModelEnd(b), b"TFL3")
        path.write_bytes(bytes(b.Output()))
        return path

"""Configs are frozen dataclasses. Here they become JSON and come back, with every name and type checked."""

import dataclasses
import difflib
import types
import typing
from typing import Any, TypeVar

from avfr_jax.errors import ConfigError

T = TypeVar("T")


def to_dict(config: Any) -> dict[str, Any]:
    """A dataclass as plain JSON values; nested dataclasses become nested dictionaries, tuples lists."""

    def plain(value: Any) -> Any:
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
        if isinstance(value, tuple | list):
            return [plain(v) for v in value]
        return value

    return plain(config)


def from_dict(kind: type[T], values: dict[str, Any], where: str = "config") -> T:
    """A dataclass from plain values; what is not named keeps its default.

    Args:
      kind: the dataclass.
      values: names and values; a name that was given up is taken for the one in the class variable `RENAMED`.
      where: what to call the place in an error message.

    Raises:
      ConfigError: for an unknown name (the nearest known one is given) or a value of another type.
    """
    fields = {f.name: f for f in dataclasses.fields(kind)}  # type: ignore[arg-type]
    hints = typing.get_type_hints(kind)
    renamed: dict[str, str] = getattr(kind, "RENAMED", {})
    values = {renamed.get(name, name): value for name, value in values.items()}
    for name in values:
        if name not in fields:
            near = difflib.get_close_matches(name, fields, n=1)
            raise ConfigError(f"{where} has no setting {name!r}" + (f"; did you mean {near[0]!r}?" if near else "."))
    return kind(**{n: _convert(hints[n], v, f"{where}.{n}") for n, v in values.items()})


def _convert(hint: Any, value: Any, where: str) -> Any:
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in inner:
            return None
        return _convert(next(h for h in inner if h is not type(None)), value, where)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        if not isinstance(value, dict):
            raise ConfigError(f"{where} must be a group of settings, not {value!r}.")
        return from_dict(hint, value, where)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise ConfigError(f"{where} must be a list, not {value!r}.")
        return tuple(_convert(inner[0], v, f"{where}[{i}]") for i, v in enumerate(value))
    if origin is typing.Literal:
        if value not in inner:
            raise ConfigError(f"{where} must be one of {', '.join(map(repr, inner))}, not {value!r}.")
        return value
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        raise ConfigError(f"{where} must be {hint.__name__}, not {value!r}.")
    return value

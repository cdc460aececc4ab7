"""Configs are frozen dataclasses. Conversion to JSON values and back, with every name and type checked."""

import dataclasses
import difflib
import functools
import math
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from avfr_jax.errors import ConfigError, shortened

T = TypeVar("T")
TAG = "type"
"""Key that carries the class name of a dataclass where a setting may be one of several."""


@functools.cache
def _hints(kind: Any) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _members(hint: Any) -> tuple[Any, ...]:
    """The members of a union, None left out; any other type is its own only member."""
    union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    return tuple(h for h in typing.get_args(hint) if h is not type(None)) if union else (hint,)


def _choices(hint: Any) -> dict[str, type]:
    """Dataclasses of a union by name; none where there is no choice."""
    named = {h.__name__: h for h in _members(hint) if isinstance(h, type) and dataclasses.is_dataclass(h)}
    return named if len(named) > 1 else {}


def to_dict(config: Any) -> dict[str, Any]:
    """A dataclass as plain JSON values.

    Nested dataclasses become dictionaries and tuples lists. Where the type of a setting is a union of dataclasses, the
    class name stands under `TAG`.
    """
    values: dict[str, Any] = _plain(config, type(config))
    return values


def _plain(value: Any, hint: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        hints = _hints(type(value))
        tag = {TAG: type(value).__name__} if _choices(hint) else {}
        return tag | {f.name: _plain(getattr(value, f.name), hints[f.name]) for f in dataclasses.fields(value)}
    if isinstance(value, tuple | list):
        inner = typing.get_args(hint)
        return [_plain(v, inner[0] if inner else Any) for v in value]
    return value


def changed_settings(config: Any, default: Any = None) -> dict[str, Any]:
    """The settings of a dataclass that differ from another's, or from their defaults, as canonical JSON values.

    Numbers are floats, and a renamed setting stands under its first name, so that the values stay the same when a
    config gains or renames settings.
    """
    default = type(config)() if default is None else default
    first = {new: old for old, new in getattr(config, "RENAMED", {}).items()}
    changed = {} if type(config) is type(default) else {TAG: type(config).__name__}
    for name in _names(config):
        value, other = getattr(config, name), getattr(default, name, None)
        if value != other:
            changed[first.get(name, name)] = _canonical(value, other)
    return changed


def _canonical(value: Any, default: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return changed_settings(value, default)
    if isinstance(value, tuple | list):
        return [_canonical(v, None) for v in value]
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def from_dict(kind: type[T], values: Mapping[str, Any], where: str = "config") -> T:
    """A dataclass from plain values; settings that are not named keep their defaults.

    Args:
      kind: the dataclass.
      values: as `to_dict` gives; the class variable `RENAMED` of a dataclass maps former names to present ones.
      where: the place, for error messages.

    Raises:
      ConfigError: for an unknown name (the nearest known one is given) or a value of another type.
    """
    hints: dict[str, Any] = _hints(kind)  # type: ignore[arg-type]
    values = _renamed(kind, values)
    for name in values:
        if name not in _names(kind):
            near = difflib.get_close_matches(shortened(name), _names(kind), n=1)
            advice = f"; did you mean {near[0]!r}?" if near else "."
            raise ConfigError(f"{where} has no setting {shortened(repr(name))}{advice}")
    return kind(**{n: _convert(hints[n], v, f"{where}.{n}") for n, v in values.items()})


def _names(kind: Any) -> list[str]:
    return [f.name for f in dataclasses.fields(kind)]


def _renamed(kind: type, values: Mapping[str, Any]) -> dict[str, Any]:
    renamed: dict[str, str] = getattr(kind, "RENAMED", {})
    return {renamed.get(name, name): value for name, value in values.items()}


def _choose(choices: dict[str, type], values: dict[str, Any], where: str) -> tuple[type, dict[str, Any]]:
    """The dataclass of a union that values belong to: the tagged one, else the first that has every name."""
    if TAG not in values:
        fitting = (c for c in choices.values() if _renamed(c, values).keys() <= set(_names(c)))
        return next(fitting, next(iter(choices.values()))), values
    if (tag := values[TAG]) not in choices:
        raise ConfigError(f"{where}.{TAG} must be one of {', '.join(map(repr, choices))}, not {shortened(repr(tag))}.")
    return choices[tag], {name: value for name, value in values.items() if name != TAG}


def _convert(hint: Any, value: Any, where: str) -> Any:
    if value is None and type(None) in typing.get_args(hint):
        return None
    choices, hint = _choices(hint), _members(hint)[0]
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        if not isinstance(value, dict):
            raise ConfigError(f"{where} must be a group of settings, not {shortened(repr(value))}.")
        kind, values = _choose(choices, value, where) if choices else (hint, value)
        return from_dict(kind, values, where)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise ConfigError(f"{where} must be a list, not {shortened(repr(value))}.")
        hints = [inner[0]] * len(value) if Ellipsis in inner else inner
        if len(value) != len(hints):
            raise ConfigError(f"{where} must be a list of {len(hints)} values, not {shortened(repr(value))}.")
        return tuple(_convert(h, v, f"{where}[{i}]") for i, (h, v) in enumerate(zip(hints, value, strict=True)))
    if origin is typing.Literal:
        if value not in inner:
            raise ConfigError(f"{where} must be one of {', '.join(map(repr, inner))}, not {shortened(repr(value))}.")
        return value
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        raise ConfigError(f"{where} must be {hint.__name__}, not {shortened(repr(value))}.")
    return value


_MOST_BLOCKS, _MOST_WIDTH, _MOST_ITEMS = 64, 1 << 16, 64


def check_network_sizes(config: Any, where: str) -> None:
    """Refuse a network's config, read from a file, whose network would take very long to build.

    Args:
      config: a dataclass whose whole numbers are widths, counts and sides in pixels.
      where: the file, for the message.

    Raises:
      ConfigError: a negative number, a count of blocks (`num_…blocks`, `halvings`) above 64, another whole number
        above 65,536, a number that is not finite, or a list of more than 64.
    """
    for field in dataclasses.fields(config):
        name, values = f"{where}.{field.name}", getattr(config, field.name)
        values = values if isinstance(values, tuple) else (values,)
        if len(values) > _MOST_ITEMS:
            raise ConfigError(f"{name} is a list of {len(values)}: at most {_MOST_ITEMS} make a network.")
        most = _MOST_BLOCKS if field.name.endswith(("blocks", "halvings")) else _MOST_WIDTH
        for value in values:
            if dataclasses.is_dataclass(value):
                check_network_sizes(value, name)
            elif isinstance(value, int) and not 0 <= value <= most:
                raise ConfigError(f"{name} must be from 0 to {most}, not {shortened(value, 20)}.")
            elif isinstance(value, float) and not math.isfinite(value):
                raise ConfigError(f"{name} must be a finite number, not {value}.")

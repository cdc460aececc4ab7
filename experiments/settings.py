"""Configs from files, and `--key value` on top of them, with names and types checked."""

import dataclasses
import difflib
import importlib.util
import json
import pathlib
import typing
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from avfr_jax.config import from_dict
from avfr_jax.errors import ConfigError, InputError

T = TypeVar("T")
CONFIGS = pathlib.Path(__file__).parent / "configs"


def load_config(name_or_path: str, kind: type[T]) -> T:
    """The `CONFIG` of a Python file.

    Args:
      name_or_path: a path, or the name of a file in `experiments/configs` without its ending.
      kind: what it must be.

    Raises:
      InputError: there is no such file.
      ConfigError: it cannot be run, or defines no `CONFIG` of that kind.
    """
    path = pathlib.Path(name_or_path)
    if not path.suffix and not path.exists():
        path = CONFIGS / f"{name_or_path}.py"
    if not path.is_file():
        known = sorted(p.stem for p in CONFIGS.glob("[!_]*.py"))
        near = difflib.get_close_matches(path.stem, known, n=1)
        hint = f"did you mean experiments/configs/{near[0]}.py?" if near else f"there are {', '.join(known)}."
        raise InputError(f"There is no config {name_or_path}; {hint}")
    spec = importlib.util.spec_from_file_location(f"avfr_config_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ConfigError(f"The config {path} cannot be run ({type(error).__name__}: {error}).") from None
    config = getattr(module, "CONFIG", None)
    if not isinstance(config, kind):
        raise ConfigError(f"The config {path} defines no CONFIG of the kind {kind.__name__}.")
    return config


def leaves(config: Any, prefix: str = "") -> dict[str, Any]:
    """Every setting by its dotted name, in order."""
    found: dict[str, Any] = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            found |= leaves(value, f"{prefix}{field.name}.")
        else:
            found[prefix + field.name] = value
    return found


def parse_overrides(words: Sequence[str]) -> dict[str, str]:
    """`--key value` and `--key=value` -> values by key; the last one counts.

    Raises:
      ConfigError: a word that is neither.
    """
    found: dict[str, str] = {}
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if not word.startswith("--"):
            raise ConfigError(f"{word!r} stands alone; settings are given as --key value.")
        key, equals, value = word[2:].partition("=")
        if not equals:
            if not rest or rest[0].startswith("--"):
                raise ConfigError(f"--{key} needs a value.")
            value = rest.pop(0)
        found[key] = value
    return found


def override(config: T, values: Mapping[str, str]) -> T:
    """A config with some settings replaced.

    Args:
      config: a frozen dataclass of settings and of further such dataclasses.
      values: texts by dotted name; a list is written `1,2,3`, nothing `none`.

    Raises:
      ConfigError: an unknown name (the nearest one is given), or a value of another type.
    """
    known = leaves(config)
    for key in values:
        if key not in known:
            raise ConfigError(_unknown(key, list(known)))
    return _replaced(config, values)


def _unknown(key: str, known: Sequence[str]) -> str:
    inside = [name for name in known if name.startswith(f"{key}.")]
    if inside:
        return f"--{key} is a group of settings: {', '.join('--' + name for name in inside[:12])}."
    # A name without its group is the commonest slip.
    by_end = [name for name in known if name.rsplit(".", 1)[-1] == key.rsplit(".", 1)[-1]]
    near = by_end[:1] or difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    return f"There is no setting --{key}" + (f"; did you mean --{near[0]}?" if near else ".")


def _replaced(config: Any, values: Mapping[str, str], group: str = "") -> Any:
    """A config with texts in the place of settings, all of a group at once: settings that belong together can be given
    in any order."""
    inside: dict[str, dict[str, str]] = {}
    for key, text in values.items():
        name, _, rest = key.partition(".")
        inside.setdefault(name, {})[rest] = text
    new = {}
    for name, texts in inside.items():
        if "" in texts:
            new[name] = _parsed(typing.get_type_hints(type(config))[name], texts[""], group + name)
        else:
            new[name] = _replaced(getattr(config, name), texts, f"{group}{name}.")
    try:
        return dataclasses.replace(config, **new)
    except TypeError as error:
        raise ConfigError(f"--{group}{', --'.join(inside)} cannot be set ({error}).") from None


def _parsed(hint: Any, text: str, key: str) -> Any:
    """A text as a value of the type; `from_dict` checks it as the one setting of a config of its own."""
    *groups, name = key.split(".")
    single = dataclasses.make_dataclass("Setting", [(name, hint)])
    where = "--" + ".".join(groups) if groups else "config"
    value: Any = from_dict(single, {name: _plain(hint, text)}, where)
    return getattr(value, name)


def _plain(hint: Any, text: str) -> Any:
    """A text as the plain value that its type suggests; what fits nothing stays text, and is refused later."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if type(None) in inner and text.lower() in ("none", "null"):
        return None
    if hint is str or (origin is typing.Literal and text in inner) or (origin is not tuple and str in inner):
        return text
    if origin is tuple and not text.startswith("["):
        return [_plain(inner[0], part.strip()) for part in text.split(",") if part.strip()]
    try:
        value = json.loads(text.lower() if text.lower() in ("true", "false") else text)
    except json.JSONDecodeError:
        return text
    # JSON reads 1e3 as a float, which a whole number of steps may well be written as.
    return int(value) if hint is int and isinstance(value, float) and value.is_integer() else value

"""Configs from files, and `--key value` on top of them, with names and types checked.

A list of tagged dataclasses (the losses) is addressed by their `NAME`: `--losses.pyramid_l1.scales 1`, and
`--losses.pyramid_l1 10` for the weight; a term that the config leaves out is added.
"""

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
      kind: its expected type.

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


def _terms(kind: type, field: str) -> dict[str, type]:
    """The dataclasses of a field that holds a list of them, by `NAME`; empty for any other field."""
    members = [h for inner in typing.get_args(typing.get_type_hints(kind)[field]) for h in typing.get_args(inner)]
    return {h.NAME: h for h in members if hasattr(h, "NAME")}


def leaves(config: Any, prefix: str = "") -> dict[str, Any]:
    """Every setting by its dotted name, in order."""
    settings: dict[str, Any] = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            settings |= leaves(value, f"{prefix}{field.name}.")
        elif _terms(type(config), field.name):
            for term in value:
                settings |= leaves(term, f"{prefix}{field.name}.{term.NAME}.")
        else:
            settings[prefix + field.name] = value
    return settings


def parse_overrides(words: Sequence[str]) -> dict[str, str]:
    """`--key value` and `--key=value` -> values by key; the last one counts.

    Raises:
      ConfigError: a word that is neither.
    """
    values: dict[str, str] = {}
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
        values[key] = value
    return values


def override(config: T, values: Mapping[str, str]) -> T:
    """A config with some settings replaced.

    Args:
      config: a frozen dataclass of settings and of further such dataclasses. Its class variables `RENAMED` (of a group)
        and `FORMER` (of dotted names) map former names to present ones.
      values: texts by dotted name; a list is written `1,2,3`, nothing `none`.

    Raises:
      ConfigError: an unknown name (the nearest one is given), or a value of another type.
    """
    changed: T = _replaced(config, _present(config, values), list(leaves(config)))
    return changed


def _present(config: Any, values: Mapping[str, str]) -> dict[str, str]:
    """Former names replaced; one that has become several is applied to those which the config has."""
    known: dict[str, Any] = leaves(config)
    present: dict[str, str] = {}
    for key, text in values.items():
        targets = getattr(config, "FORMER", {}).get(key, (key,))
        present |= dict.fromkeys([t for t in targets if t in known] if len(targets) > 1 else targets, text)
    return present


def _unknown(key: str, known: Sequence[str]) -> str:
    inside = [name for name in known if name.startswith(f"{key}.")]
    if inside:
        return f"--{key} is a group of settings: {', '.join('--' + name for name in inside[:12])}."
    # A name without its group is the commonest slip.
    by_end = [name for name in known if name.rsplit(".", 1)[-1] == key.rsplit(".", 1)[-1]]
    near = by_end[:1] or difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    return f"There is no setting --{key}" + (f"; did you mean --{near[0]}?" if near else ".")


def _grouped(values: Mapping[str, str], renamed: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Texts by the first part of their dotted name, then by the rest."""
    groups: dict[str, dict[str, str]] = {}
    for key, text in values.items():
        name, _, rest = key.partition(".")
        groups.setdefault(renamed.get(name, name), {})[rest] = text
    return groups


def _replaced(config: Any, values: Mapping[str, str], known: Sequence[str], group: str = "") -> Any:
    """A config with texts in the place of settings, all of a group at once: settings that belong together can be given
    in any order."""
    new, inside = {}, _grouped(values, getattr(config, "RENAMED", {}))
    for name, texts in inside.items():
        rest = next(iter(texts))
        full = group + name + (f".{rest}" if rest else "")
        if name not in type(config).__dataclass_fields__:
            raise ConfigError(_unknown(full, known))
        value: Any = getattr(config, name)
        if terms := _terms(type(config), name):
            new[name] = _replaced_terms(value, terms, texts, known, f"{group}{name}.")
        elif dataclasses.is_dataclass(value) and "" not in texts:
            new[name] = _replaced(value, texts, known, f"{group}{name}.")
        elif dataclasses.is_dataclass(value) or rest:
            raise ConfigError(_unknown(full, known))
        else:
            new[name] = _parsed(typing.get_type_hints(type(config))[name], texts[""], group + name)
    try:
        return dataclasses.replace(config, **new)
    except TypeError as error:
        raise ConfigError(f"--{group}{', --'.join(inside)} cannot be set ({error}).") from None


def _replaced_terms(
    terms: tuple[Any, ...], choices: Mapping[str, type], values: Mapping[str, str], known: Sequence[str], group: str
) -> tuple[Any, ...]:
    by_name = {term.NAME: term for term in terms}
    for name, texts in _grouped(values, {}).items():
        if name not in choices:
            choice = [f"{group}{name}" for name in choices]
            raise ConfigError(_unknown(f"{group}{name}" if name else group[:-1], [*known, *choice]))
        texts = {rest or "weight": text for rest, text in texts.items()}
        by_name[name] = _replaced(by_name.get(name, choices[name]()), texts, known, f"{group}{name}.")
    return tuple(by_name.values())


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
    if type(None) in inner:
        if text.lower() in ("none", "null"):
            return None
        return _plain(next(h for h in inner if h is not type(None)), text)
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

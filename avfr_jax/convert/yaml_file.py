"""YAML files of other programs, read within bounds."""

import pathlib
from typing import Any

from avfr_jax.errors import ConfigError, InputError, shortened

_MOST_BYTES = 32_000
_MOST_VALUES = 10_000


def read_yaml(path: pathlib.Path) -> Any:
    """The values of a small YAML file.

    Raises:
      InputError: there is no such file.
      ConfigError: it is not YAML, is larger than 32 kB, or its aliases stand for more than 10,000 values.
    """
    import yaml

    if not path.is_file():
        raise InputError(f"There is no config file {path}.")
    if path.stat().st_size > _MOST_BYTES:
        raise ConfigError(f"{shortened(path.name)} is larger than {_MOST_BYTES // 1000} kB; it is not a config.")
    try:
        text = path.read_text()
        if _expanded(yaml.compose(text, yaml.SafeLoader), {}) > _MOST_VALUES:
            raise ConfigError(
                f"{shortened(path.name)} stands for more than {_MOST_VALUES} values, its aliases included."
            )
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError) as error:
        raise ConfigError(f"{shortened(path.name)} is not a YAML file ({type(error).__name__}).") from None


def _expanded(node: Any, known: dict[int, int]) -> int:
    """The number of values under a node, those under an alias counted wherever it stands; too many for one that holds
    itself."""
    if id(node) not in known:
        known[id(node)] = _MOST_VALUES + 1  # until it is counted
        children = node.value if node is not None and not isinstance(node.value, str) else []
        pairs = [child if isinstance(child, tuple) else (child,) for child in children]
        known[id(node)] = 1 + sum(_expanded(child, known) for pair in pairs for child in pair)
    return known[id(node)]

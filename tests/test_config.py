import dataclasses
import importlib
import json
import pkgutil
import typing
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from avfr_jax.config import TAG, from_dict, to_dict
from avfr_jax.errors import AvfrError, ConfigError
from avfr_jax.families import FAMILIES

SCALARS = {
    int: st.integers(-4, 64),
    float: st.floats(-4, 64, allow_nan=False),
    bool: st.booleans(),
    str: st.text(max_size=8),
}


def _configs() -> list[type]:
    """Every public frozen dataclass of plain settings with defaults, in the packages that keep configs."""
    found = {}
    for top in ("avfr_jax.models", "avfr_jax.training", "experiments", "pipelines"):
        for module in pkgutil.walk_packages(importlib.import_module(top).__path__, f"{top}."):
            if module.name.endswith("__main__") or ".configs." in module.name:
                continue
            for value in vars(importlib.import_module(module.name)).values():
                if isinstance(value, type) and dataclasses.is_dataclass(value) and value.__module__ == module.name:
                    found[f"{module.name}.{value.__name__}"] = value
    return [kind for kind in found.values() if _is_config(kind)]


def _is_config(kind: Any) -> bool:
    return kind.__dataclass_params__.frozen and all(
        f.default is not dataclasses.MISSING and _strategy(h) is not None
        for f, h in ((f, typing.get_type_hints(kind)[f.name]) for f in dataclasses.fields(kind))
    )


def _strategy(hint: Any) -> st.SearchStrategy[Any] | None:
    """Values of a type; None for a type that has no place in a config."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if hint is type(None):
        return st.none()
    if hint in SCALARS:
        return SCALARS[hint]
    if origin is typing.Literal:
        return st.sampled_from(inner)
    parts = [_strategy(h) for h in inner if h is not Ellipsis]
    if inner and None in parts:
        return None
    if origin is tuple:
        return st.lists(parts[0], max_size=3).map(tuple) if Ellipsis in inner else st.tuples(*parts)
    if inner:
        return st.one_of(*parts)
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return st.fixed_dictionaries({}, optional=_fields(hint)).map(lambda kw: _build(hint, kw))
    return None


def _fields(kind: Any) -> dict[str, Any]:
    hints = typing.get_type_hints(kind)
    return {f.name: _strategy(hints[f.name]) for f in dataclasses.fields(kind)}


def _build(kind: Any, values: dict[str, Any]) -> Any:
    try:
        return kind(**values)
    except AvfrError:
        assume(False)


# beartype, which checks arguments in the tests, samples elements of lists.
pytestmark = pytest.mark.filterwarnings("ignore:Do not use the `random` module")
CONFIGS = _configs()


@pytest.mark.parametrize("kind", CONFIGS, ids=[f"{k.__module__}.{k.__name__}" for k in CONFIGS])
def test_round_trip(kind):
    checks = [HealthCheck.too_slow, HealthCheck.filter_too_much]

    @settings(max_examples=15, deadline=None, database=None, derandomize=True, suppress_health_check=checks)
    @given(_strategy(kind))
    def holds(config):
        assert from_dict(kind, json.loads(json.dumps(to_dict(config)))) == config

    assert from_dict(kind, json.loads(json.dumps(to_dict(kind())))) == kind()
    holds()


def test_every_family_has_a_config_in_the_round_trip():
    assert {family.config for family in FAMILIES.values()} <= set(CONFIGS)


@dataclasses.dataclass(frozen=True)
class Small:
    width: int = 4


@dataclasses.dataclass(frozen=True)
class Large(Small):
    depth: int = 2


@dataclasses.dataclass(frozen=True)
class Whole:
    net: Small | Large = Small()
    terms: tuple[Small | Large, ...] = ()
    size: tuple[int, float] = (1, 2.0)


def test_union_is_read_by_its_tag():
    whole = Whole(Large(1, 5), (Small(1), Large(2, 3)))
    values = to_dict(whole)
    assert values["net"] == {TAG: "Large", "width": 1, "depth": 5}
    assert from_dict(Whole, values) == whole


@pytest.mark.parametrize(
    ("values", "expected"), [({"width": 1}, Small(1)), ({"width": 1, "depth": 3}, Large(1, 3)), ({}, Small())]
)
def test_union_without_tag_is_read_by_its_names(values, expected):
    assert from_dict(Whole, {"net": values}).net == expected


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"net": {TAG: "Lage"}}, "config.net.type must be one of 'Small', 'Large', not 'Lage'."),
        ({"net": {TAG: "Large", "dept": 1}}, "config.net has no setting 'dept'; did you mean 'depth'?"),
        ({"net": {"widht": 1}}, "config.net has no setting 'widht'; did you mean 'width'?"),
        ({"net": {TAG: "Large", "depth": 1.5}}, "config.net.depth must be int, not 1.5."),
        ({"net": 3}, "config.net must be a group of settings, not 3."),
        ({"size": [1]}, r"config.size must be a list of 2 values, not \[1\]."),
        ({"terms": [{TAG: "Small", "depth": 1}]}, r"config.terms\[0\] has no setting 'depth'."),
    ],
)
def test_bad_values_are_refused(values, sentence):
    with pytest.raises(ConfigError, match=f"^{sentence}".replace("?", r"\?")):
        from_dict(Whole, values)

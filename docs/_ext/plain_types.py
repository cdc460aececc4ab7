"""Array annotations as they are written, `Float[Array, "b h w 3"]`, in place of the unions and modules behind them."""

import sys
import types
from typing import Any


class _Annotation:
    """One annotation; prints as its text."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text

    def __call__(self, *_: Any) -> None:
        """Annotations of named tuples must be callable."""

    def __or__(self, other: Any) -> "_Annotation":
        return _Annotation(f"{self.text} | {_text(other)}")

    def __ror__(self, other: Any) -> "_Annotation":
        return _Annotation(f"{_text(other)} | {self.text}")


class _Kind(_Annotation):
    """`Float` and the like."""

    def __getitem__(self, item: Any) -> _Annotation:
        array, shape = item
        return _Annotation(f'{self.text}[{_text(array)}, "{shape}"]')


def _text(value: Any) -> str:
    if value is None or value is type(None):
        return "None"
    if isinstance(value, type) and not isinstance(value, types.GenericAlias):
        return "np.ndarray" if value.__module__ == "numpy" else value.__name__
    return repr(value)


def install() -> None:
    """Put these annotations in the place of `avfr_jax.typing`."""
    module = types.ModuleType("avfr_jax.typing", "Array types with shapes.")
    names = ("Bool", "Float", "Int", "Shaped", "UInt8")
    for name in names:
        setattr(module, name, _Kind(name))
    module.Array = _Annotation("Array")  # type: ignore[attr-defined]
    module.__all__ = ["Array", *names]  # type: ignore[attr-defined]
    sys.modules["avfr_jax.typing"] = module

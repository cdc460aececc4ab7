"""`numba.njit` that also works where nothing can be written."""

from collections.abc import Callable
from typing import Any, TypeVar

import numba

Function = TypeVar("Function", bound=Callable[..., Any])


def njit(function: Function, **options: Any) -> Function:
    """Compile a function with Numba when it is first called.

    The machine code is kept in `NUMBA_CACHE_DIR` (see `avfr_jax.folders`), else beside the source file. Where neither
    can be written to, each process compiles anew.

    Args:
      function: to compile.
      options: of `numba.njit`.
    """
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError:  # no place for the cache
        return numba.njit(**options)(function)

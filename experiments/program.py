"""What every measuring program of this folder does around its work."""

import sys
from collections.abc import Callable

from avfr_jax.errors import AvfrError


def run_program(work: Callable[[], None]) -> int:
    """Do the work with the settings of a long computation; what is wrong with its input is told in one sentence.

    Returns:
      The exit status: 0, or 2 where the work ended with an `AvfrError`.
    """
    from avfr_jax.nn.allocator import keep_freed_memory
    from avfr_jax.runtime import enable_compilation_cache, log_to_stderr

    log_to_stderr()
    enable_compilation_cache()
    keep_freed_memory()
    try:
        work()
    except AvfrError as error:
        print(f"avfr: {error}", file=sys.stderr)
        return 2
    return 0

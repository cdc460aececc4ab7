"""Settings of the process that runs a command: the cache of compiled programs, and quiet logs."""

import logging
import os
import sys

from avfr_jax.folders import compiled_folder


def enable_compilation_cache() -> None:
    """Keep compiled programs in `cache_folder()/compiled`, so that the next start does not compile them again.

    Does nothing where JAX was told of a folder already (`JAX_COMPILATION_CACHE_DIR`) or the folder cannot be made.
    """
    import jax

    if os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        return
    folder = compiled_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)


class _Sentences(logging.Handler):
    """Warnings as sentences on stderr, without breaking a progress line."""

    def emit(self, record: logging.LogRecord) -> None:
        sentence = record.getMessage()
        print(f"\r\033[Kavfr: {sentence}" if sys.stderr.isatty() else f"avfr: {sentence}", file=sys.stderr)


def log_to_stderr() -> None:
    """Show the package's own warnings, once each line, as the command line writes them."""
    logger = logging.getLogger("avfr_jax")
    if not logger.handlers:
        logger.addHandler(_Sentences())
        logger.propagate = False
    for name in ("absl", "jax._src.xla_bridge", "orbax"):
        logging.getLogger(name).setLevel(logging.ERROR)

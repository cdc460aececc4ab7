"""Settings of the process that runs a command: cache of compiled programs, Python's and native logging."""

import contextlib
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from typing import Any

from avfr_jax.folders import compiled_folder

# Read when mediapipe's library is loaded, so this must precede `import mediapipe`; a user's own setting wins.
for _name in ("GLOG_minloglevel", "TF_CPP_MIN_LOG_LEVEL", "ABSL_MIN_LOG_LEVEL"):
    os.environ.setdefault(_name, "3")


def enable_compilation_cache() -> None:
    """Keep compiled programs in `compiled_folder()` for the next start.

    Does nothing where `JAX_COMPILATION_CACHE_DIR` is set or the folder cannot be made.
    """
    import jax

    if os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        return
    folder = compiled_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return
    settings: Any = jax.config
    settings.update("jax_compilation_cache_dir", str(folder))
    settings.update("jax_persistent_cache_min_compile_time_secs", 0.2)
    settings.update("jax_persistent_cache_min_entry_size_bytes", 0)


class _Sentences(logging.Handler):
    """Warnings as sentences on stderr, without breaking a progress line."""

    def emit(self, record: logging.LogRecord) -> None:
        sentence = record.getMessage()
        print(f"\r\033[Kavfr: {sentence}" if sys.stderr.isatty() else f"avfr: {sentence}", file=sys.stderr)


def log_to_stderr() -> None:
    """Print the package's warnings as the command line writes them; leave out those of JAX, absl and orbax."""
    logger = logging.getLogger("avfr_jax")
    if not logger.handlers:
        logger.addHandler(_Sentences())
        logger.propagate = False
    for name in ("absl", "jax._src.xla_bridge", "orbax"):  # orbax logs what it raises too
        logging.getLogger(name).setLevel(logging.CRITICAL)


@contextlib.contextmanager
def silence_native_logging() -> Iterator[None]:
    """Redirect file descriptor 2 to the null device, and ignore Python's warnings.

    mediapipe's C++ side logs through absl before anything can set absl's threshold ("Created TensorFlow Lite XNNPACK
    delegate", "Feedback manager requires …"). Applies to the whole process, so keep the body short. Does nothing where
    `AVFR_VERBOSE_FACES=1`.
    """
    if os.environ.get("AVFR_VERBOSE_FACES") == "1":
        yield
        return
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.flush()
    try:
        saved = os.dup(2)
    except OSError:  # the process has no standard error stream
        yield
        return
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    os.close(null)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)

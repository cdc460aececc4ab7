"""Settings of the process that runs a command: cache of compiled programs, Python's and native logging."""

import contextlib
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from typing import Any

from avfr_jax.errors import ConfigError
from avfr_jax.folders import compiled_folder

# Read when mediapipe's library is loaded, so this must precede `import mediapipe`; a user's own setting wins.
for _name in ("GLOG_minloglevel", "TF_CPP_MIN_LOG_LEVEL", "ABSL_MIN_LOG_LEVEL"):
    os.environ.setdefault(_name, "3")


def start_jax() -> None:
    """Prepare a program of its own: check `JAX_PLATFORMS`, compute in float32 whatever `JAX_ENABLE_X64` says, and keep
    compiled programs in `compiled_folder()` for the next start.

    The cache stays as it is where `JAX_COMPILATION_CACHE_DIR` is set or no folder can be written to.

    Raises:
      ConfigError: `JAX_PLATFORMS` names a platform that this machine lacks.
    """
    import jax

    check_platforms()
    settings: Any = jax.config
    settings.update("jax_enable_x64", False)
    if not os.environ.get("JAX_COMPILATION_CACHE_DIR") and (folder := compiled_folder()):
        settings.update("jax_compilation_cache_dir", str(folder))
        settings.update("jax_persistent_cache_min_compile_time_secs", 0.2)
        settings.update("jax_persistent_cache_min_entry_size_bytes", 0)


def check_platforms() -> None:
    """Start JAX's backends.

    Raises:
      ConfigError: `JAX_PLATFORMS` names a platform that this machine lacks.
    """
    import jax

    settings: Any = jax.config
    try:
        jax.devices()
    except (AssertionError, RuntimeError):
        named = settings.jax_platforms
        if not named:
            raise
        settings.update("jax_platforms", None)
        available = sorted({device.platform for device in jax.devices()} | {"cpu"})
        settings.update("jax_platforms", named)
        raise ConfigError(
            f"JAX_PLATFORMS={named} names a device that JAX does not find here; available: {', '.join(available)}. "
            "Unset the variable or choose one of these."
        ) from None


class _Sentences(logging.Handler):
    """Warnings as sentences on stderr, without breaking a progress line."""

    def emit(self, record: logging.LogRecord) -> None:
        sentence = record.getMessage()
        if sys.stderr is not None:  # a process without one
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
    `AVFR_VERBOSE_FACES=1`, and in a process without a standard error stream, whose descriptor may be another file's.
    """
    if os.environ.get("AVFR_VERBOSE_FACES") == "1" or sys.stderr is None:
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

"""Silence for the messages that mediapipe's C++ side writes straight to the standard error stream."""

import contextlib
import os
import sys
import warnings
from collections.abc import Iterator

# Read when the library is loaded, so this must precede `import mediapipe`; a user's own setting wins.
for _name, _value in (("GLOG_minloglevel", "3"), ("TF_CPP_MIN_LOG_LEVEL", "3"), ("ABSL_MIN_LOG_LEVEL", "3")):
    os.environ.setdefault(_name, _value)


@contextlib.contextmanager
def silence_native_logging() -> Iterator[None]:
    """Sends file descriptor 2 to the null device meanwhile, and ignores Python's deprecation warnings.

    mediapipe logs through absl before anything can set absl's threshold ("Created TensorFlow Lite XNNPACK
    delegate", "Feedback manager requires …"): no environment variable stops it. Exceptions pass through.
    Set AVFR_VERBOSE_FACES=1 to see everything. Applies to the whole process, so keep the body short.
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

"""The choice of a face backend."""

import importlib.util
from typing import Literal

from avfr_jax.errors import ConfigError, MissingBackendError
from avfr_jax.faces.face import FaceBackend
from avfr_jax.packages import FACE_BACKEND


def open_face_backend(backend: Literal["auto", "solutions", "tasks"] = "auto") -> FaceBackend:
    """Open a face backend.

    Args:
      backend: `solutions` is mediapipe's older interface, whose models are inside the wheel (mediapipe 0.10.21 and
        before); `tasks` the newer one, whose models must be downloaded; `auto` takes the first that can work here.

    Raises:
      MissingBackendError: mediapipe or its models are missing.
      ConfigError: an unknown name.
    """
    if backend not in ("auto", "solutions", "tasks"):
        raise ConfigError(f'there is no face backend "{backend}": use "auto", "solutions" or "tasks"')
    for module, line in (
        ("cv2", "pip install 'avfr-jax[media]'"),
        ("mediapipe", f"{FACE_BACKEND} (on Python 3.11 or 3.12)"),
    ):
        if importlib.util.find_spec(module) is None:
            raise MissingBackendError(f"face detection needs the package {module}, which is not installed: {line}")
    from avfr_jax.faces.mediapipe_solutions import SolutionsBackend, missing_solution_models
    from avfr_jax.faces.mediapipe_tasks import TasksBackend

    missing = missing_solution_models()
    if backend == "solutions" and missing:
        raise MissingBackendError(
            f"the installed mediapipe carries no {missing[0]}: install the wheel that has the models of the "
            f'"solutions" face backend ({FACE_BACKEND}), or use the "tasks" backend'
        )
    return TasksBackend() if backend == "tasks" or missing else SolutionsBackend()

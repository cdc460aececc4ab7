"""Optional packages: which extra brings each, and the one line that brings a face backend."""

from avfr_jax.errors import MissingBackendError

# mediapipe 0.10.21, the last with its models, declares numpy < 2 and works with NumPy 2; protobuf 5 and later break it.
FACE_BACKEND = "pip install --no-deps mediapipe==0.10.21 'protobuf<5'"

_MEDIA = ("av", "cv2", "jaxtyping", "librosa", "matplotlib", "numba", "PIL", "skimage", "threadpoolctl", "tqdm", "yaml")
_TRAINING = ("dm_pix", "grain", "msgpack", "tensorboardX", "tensorflow_datasets", "tflite")
_LINES = {
    **dict.fromkeys(_MEDIA, "pip install 'avfr-jax[media]'"),
    **dict.fromkeys(_TRAINING, "pip install 'avfr-jax[all]'"),
    "mediapipe": FACE_BACKEND,
}


def missing_package(error: ModuleNotFoundError) -> MissingBackendError | None:
    """The sentence for an optional package that is not installed; None for any other module."""
    name = (error.name or "").partition(".")[0]
    if name not in _LINES:
        return None
    return MissingBackendError(f"This needs the package {name}, which is not installed: {_LINES[name]}")

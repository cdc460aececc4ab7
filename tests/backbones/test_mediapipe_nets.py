"""mediapipe's networks in JAX against mediapipe's own interpreter, on one public-domain portrait."""

import importlib.util
import pathlib
import re

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from avfr_jax.backbones import mediapipe_nets as nets
from avfr_jax.errors import CheckpointError, MissingBackendError
from avfr_jax.packages import FACE_BACKEND
from tests.media_fixtures import astronaut

needs_wheel = pytest.mark.skipif(
    nets.wheel_file("face_landmark") is None or importlib.util.find_spec("tflite") is None,
    reason="the installed mediapipe carries no models, or tflite is not installed",
)

# Raw numbers of a network's first output for a picture of exactly its size.
_GRAPH = """
input_stream: "image"
output_stream: "floats"
node {{
  calculator: "ImageToTensorCalculator" input_stream: "IMAGE:image" output_stream: "TENSORS:tensors"
  options {{ [mediapipe.ImageToTensorCalculatorOptions.ext] {{
    output_tensor_width: {size} output_tensor_height: {size} output_tensor_float_range {{ min: 0.0 max: 1.0 }}
  }} }}
}}
node {{
  calculator: "InferenceCalculator" input_stream: "TENSORS:tensors" output_stream: "TENSORS:outputs"
  options {{ [mediapipe.InferenceCalculatorOptions.ext] {{ model_path: "{model}" delegate {{ xnnpack {{}} }} }} }}
}}
node {{
  calculator: "SplitTensorVectorCalculator" input_stream: "outputs" output_stream: "first"
  options {{ [mediapipe.SplitVectorCalculatorOptions.ext] {{ ranges {{ begin: 0 end: 1 }} }} }}
}}
node {{ calculator: "TensorsToFloatsCalculator" input_stream: "TENSORS:first" output_stream: "FLOATS:floats" }}
"""


def _interpreter(name: str, image: np.ndarray) -> np.ndarray:
    """Output of mediapipe's interpreter for a square uint8 image, flat."""
    import mediapipe
    from mediapipe.python._framework_bindings import resource_util

    resource_util.set_resource_dir(str(pathlib.Path(mediapipe.__file__).parents[1]))
    text = _GRAPH.format(size=len(image), model=f"mediapipe/{nets.FILES[name]}")
    graph, found = mediapipe.CalculatorGraph(graph_config=text), []
    read = mediapipe.packet_getter.get_float_list
    graph.observe_output_stream("floats", lambda _, packet: found.append(read(packet)))
    graph.start_run()
    packet = mediapipe.packet_creator.create_image_frame(image_format=mediapipe.ImageFormat.SRGB, data=image)
    graph.add_packet_to_input_stream("image", packet.at(0))
    graph.close_all_packet_sources()
    graph.wait_until_done()
    (floats,) = found
    return np.array(floats)


def _float(image: np.ndarray) -> np.ndarray:
    return image[None].astype(np.float32) / 255


def _width(points: np.ndarray) -> float:
    return float(np.ptp(points[..., 0]))


def _has_a_gradient(function, image):
    gradient = jax.jit(jax.grad(lambda x: function(x).sum()))(jnp.asarray(image))
    assert gradient.shape == image.shape
    assert np.isfinite(gradient).all()
    assert np.abs(gradient).max() > 0


@needs_wheel
def test_face_landmarks_match_the_interpreter():
    image = astronaut(192)
    theirs = _interpreter("face_landmark", image).reshape(468, 3) / 96
    theirs[:, :2] -= 1
    read = jax.jit(nets.face_landmarks)
    ours = np.asarray(read(_float(image))[0])
    assert np.abs(ours - theirs).max() < 0.01 * _width(theirs)
    # The mirror image has mirrored landmarks, right and left exchanged.
    mirrored = np.asarray(read(_float(image[:, ::-1]))[0])
    assert np.abs(mirrored[[33, 263], 0] + ours[[263, 33], 0]).max() < 0.1 * _width(theirs)


@needs_wheel
def test_tracked_face_landmarks_match_mediapipe():
    """Both take the crop from the landmarks of the frame before."""
    from mediapipe.python.solutions.face_mesh import FaceMesh

    image = np.ascontiguousarray(astronaut(320)[:240])
    aspect, read = 240 / 320, []
    with FaceMesh(static_image_mode=False, refine_landmarks=False) as mesh:
        for _ in range(3):
            (face,) = mesh.process(image).multi_face_landmarks
            read.append(np.array([[2 * p.x - 1, 2 * p.y - 1] for p in face.landmark]))
    region = nets.face_region(read[-2][None], aspect)
    ours = np.asarray(jax.jit(nets.face_landmarks)(_float(image), region)[0])
    assert np.abs(ours[:, :2] - read[-1]).max() < 0.01 * _width(read[-1])


@needs_wheel
def test_face_landmarks_have_a_gradient():
    _has_a_gradient(nets.face_landmarks, _float(astronaut(96)))


@needs_wheel
def test_face_features():
    features = jax.jit(nets.face_features)
    maps = features(_float(astronaut(256)))
    assert [x.shape for x in maps] == [(1, 96 // 2**i, 96 // 2**i, 16 * 2 ** min(i, 3)) for i in range(5)]
    small = features(_float(astronaut(64)))
    assert [x.shape[1] for x in small] == [32, 16, 8, 4, 2]
    with pytest.raises(ValueError, match="32 pixels"):
        nets.face_features(jnp.zeros((1, 31, 64, 3)))


@needs_wheel
def test_pose_points():
    image = astronaut(256)
    network = nets.load_network("pose_landmark")

    @jax.jit
    def read(image):
        mesh = nets.face_landmarks(image)
        raw = network(image, network.graph.outputs[:1])[0].reshape(39, 5)
        return raw, mesh[0], nets.pose_points(image, nets.pose_region(mesh))[0]

    raw, mesh, points = (np.asarray(x) for x in read(_float(image)))
    theirs = _interpreter("pose_landmark", image).reshape(39, 5)
    assert np.abs(raw[:, :2] - theirs[:, :2]).max() < 0.01 * 256
    # In a crop eight faces wide the network places points to a third of a face.
    assert points.shape == (len(nets.POSE_POINTS), 3)
    places = {"nose": 1, "left eye outer": 263, "right eye outer": 33, "mouth left": 291, "mouth right": 61}
    for name, at in places.items():
        assert np.linalg.norm(points[nets.POSE_POINTS.index(name), :2] - mesh[at, :2]) < 0.4 * _width(mesh), name


@needs_wheel
def test_pose_points_have_a_gradient():
    _has_a_gradient(nets.pose_points, _float(astronaut(96)))


@needs_wheel
def test_selfie_mask():
    image = astronaut(256)
    theirs = _interpreter("selfie_segmentation", image).reshape(256, 256)
    mask = jax.jit(nets.selfie_mask)
    ours = np.asarray(mask(_float(image))[0])
    assert 0 <= ours.min() < 0.1 < 0.9 < ours.max() <= 1
    assert np.abs(ours - theirs).mean() < 0.01
    larger = cv2.resize(image, (320, 288), interpolation=cv2.INTER_AREA)
    assert mask(_float(larger)).shape == (1, 288, 320)
    _has_a_gradient(nets.selfie_mask, _float(astronaut(96)))


def test_region_crop_and_points():
    """The region comes from the landmarks' box, rotated with the line of the eyes; NaN gives the whole frame."""
    turn = 0.3
    rng = np.random.default_rng(0)
    box = np.concatenate([[[-0.2, -0.3], [0.2, 0.3]], rng.uniform(-0.2, 0.2, (466, 2))])
    box[33], box[263] = (-0.1, 0), (0.1, 0.2 * np.tan(turn))
    points = np.stack([box + np.array([0.1, -0.1]), np.full_like(box, np.nan)])
    region = nets.face_region(points, scale=2.0)
    np.testing.assert_allclose(region.centre, [[0.1, -0.1], [0, 0]], atol=1e-6)
    np.testing.assert_allclose(region.side, [2.0 * 0.3, 1], rtol=1e-5)
    np.testing.assert_allclose(region.angle, [turn, 0], rtol=1e-5)
    # A region upright in the middle of half the frame is that half.
    frame = rng.random((1, 8, 8, 3)).astype(np.float32)
    half = nets.Region(jnp.zeros((1, 2)), jnp.full(1, 0.5), jnp.zeros(1))
    np.testing.assert_allclose(nets.crop(frame, half, 4), frame[:, 2:6, 2:6], atol=1e-6)
    # Rotated by 90° clockwise: the region's upper edge is the frame's right one.
    quarter = nets.Region(jnp.zeros((1, 2)), jnp.ones(1), jnp.full(1, jnp.pi / 2))
    np.testing.assert_allclose(nets.crop(frame, quarter, 8)[0], np.rot90(frame[0]), atol=1e-4)


@needs_wheel
def test_converted_copies_replace_the_wheel(tmp_path, monkeypatch):
    monkeypatch.setenv("AVFR_HOME", str(tmp_path))
    image = _float(astronaut(64))
    features = jax.jit(nets.face_features)
    wanted = features(image, nets.load_network("face_landmark"))
    written = nets.export_networks()
    assert [path.stem for path in written] == list(nets.FILES)
    monkeypatch.setattr(nets, "wheel_file", lambda name: None)
    assert nets.find_network("face_landmark") == written[0] == nets.copy_file("face_landmark")
    for a, b in zip(features(image, nets.load_network("face_landmark")), wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
    arrays = nets.copy_file("selfie_segmentation").with_suffix(".npz")
    arrays.write_bytes(arrays.read_bytes()[:-20] + bytes(20))
    with pytest.raises(CheckpointError, match="checksum differs"):
        nets.load_network("selfie_segmentation")


def test_missing_networks_are_reported_with_the_remedy(tmp_path, monkeypatch):
    monkeypatch.setenv("AVFR_HOME", str(tmp_path))
    monkeypatch.setattr(nets, "wheel_file", lambda name: None)
    for name in nets.FILES:
        with pytest.raises(
            MissingBackendError, match=re.escape(f"run {FACE_BACKEND} and pip install tflite, or run avfr import")
        ):
            nets.load_network(name)
    with pytest.raises(MissingBackendError, match=r"no modules/face_landmark/face_landmark\.tflite"):
        nets.export_networks(tmp_path)

import numpy as np
import pytest

from avfr_jax import load_model
from avfr_jax.cli.main import main
from avfr_jax.convert import face_vid2vid as convert
from avfr_jax.convert.torch_file import read_torch_file
from avfr_jax.errors import CheckpointError, ConfigError
from tests.reference import channels_last

pytestmark = pytest.mark.shared


@pytest.fixture(scope="module")
def golden(shared_dir):
    return shared_dir / "golden"


def test_front_door_gives_the_reference_prediction(golden, tmp_path, capsys):
    """The generator of one file, the other networks of another."""
    z = np.load(golden / "fv2v_tiny_io.npz")
    source, driving = channels_last(z["source_NCHW"]), channels_last(z["driving_NCHW"])
    words = [
        "import",
        "face-vid2vid",
        str(golden / "fv2v_tiny_original_generator_only.pth.tar"),
        str(tmp_path / "tiny"),
    ]
    more = ["--networks", str(golden / "fv2v_tiny_spade.pth.tar"), "--config", str(golden / "fv2v_tiny.yaml")]
    assert main([*words, *more]) == 0
    assert "6 keypoints" in capsys.readouterr().err
    model = load_model(tmp_path / "tiny")
    k_source, k_driving = model.keypoints(source), model.driving_keypoints(driving)
    assert np.asarray(k_source.canonical).any()
    assert not np.asarray(k_driving.canonical).any()  # the source's count
    for b in range(2):
        frames = model.animate(source[b], k_source[b], k_driving)
        want = channels_last(z["eval/original/prediction_NCHW"])[b]
        np.testing.assert_allclose(np.asarray(frames)[b], want, atol=1e-4)


def test_widths_are_read_from_the_tensors(golden):
    states = convert.find_states(read_torch_file(golden / "fv2v_tiny_spade.pth.tar"), "file")
    config = convert.with_yaml(convert.config_of(states), golden / "fv2v_tiny.yaml")
    assert (config.generator.kind, config.generator.spade_hidden, config.generator.volume_depth) == ("spade", 16, 4)
    assert config.head_pose.stage_blocks == (3, 4, 6, 3)
    assert (config.compatibility, config.align_corners, config.image_size) == ("unofficial", False, 256)


def test_first_release_is_recognised(golden):
    states = convert.find_states(read_torch_file(golden / "fv2v_tiny_spade.pth.tar"), "file")
    del states["kp_detector"]["down.weight"]  # keypoints at full resolution need none
    config = convert.config_of(states)
    assert (config.compatibility, config.keypoint_detector.scale_factor) == ("unofficial-beta", 1.0)
    with pytest.raises(ConfigError, match=r"fv2v_tiny.yaml detects keypoints on downsampled .* other variant"):
        convert.with_yaml(config, golden / "fv2v_tiny.yaml")


@pytest.mark.parametrize(
    ("kind", "file", "more", "wanted"),
    [
        ("face-vid2vid", "fomm_tiny.pth.tar", (), "First Order Motion Model"),
        ("fomm", "fv2v_tiny_jac_original.pth.tar", (), "is a face-vid2vid checkpoint"),
        ("fomm", "fv2v_tiny_original_generator_only.pth.tar", (), "is a face-vid2vid checkpoint"),
        ("face-vid2vid", "fv2v_tiny_original_generator_only.pth.tar", (), "without kp_detector and he_estimator"),
        (
            "face-vid2vid",
            "fv2v_tiny_spade.pth.tar",
            ("--config", "fv2v_tiny_jac.yaml"),
            "has num_kp 5, the checkpoint 6",
        ),
        ("face-vid2vid", "fv2v_tiny_spade.pth.tar", ("--config", "fomm_tiny.yaml"), "is not a face-vid2vid config"),
        ("fomm", "fomm_tiny.pth.tar", ("--networks", "fomm_tiny.pth.tar"), "goes with avfr import face-vid2vid"),
    ],
)
def test_other_checkpoints_are_refused_in_a_sentence(golden, tmp_path, capsys, kind, file, more, wanted):
    words = [str(golden / word) if "." in word else word for word in more]
    assert main(["import", kind, str(golden / file), str(tmp_path / "model"), *words]) == 2
    message = capsys.readouterr().err
    assert wanted in message
    assert message.count("\n") == 1


def test_incomplete_checkpoints_are_refused(golden):
    states = convert.find_states(read_torch_file(golden / "fv2v_tiny_spade.pth.tar"), "file")
    del states["generator"]["decoder.conv_img.bias"]
    with pytest.raises(CheckpointError, match="1 missing: generator/params/painter/colours/bias"):
        convert.to_tree(states, convert.config_of(states))
    del states["generator"]["second.weight"]
    with pytest.raises(CheckpointError, match=r"not a whole face-vid2vid checkpoint: the tensor 'second.weight'"):
        convert.config_of(states)

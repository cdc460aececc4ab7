import collections
import io
import pickle
import zipfile

import jax
import numpy as np
import pytest

from avfr_jax.convert import fomm as convert
from avfr_jax.convert.torch_file import read_torch_file
from avfr_jax.errors import CheckpointError, ConfigError, InputError
from avfr_jax.models import fomm


@pytest.mark.shared
def test_both_pytorch_formats_give_the_same_weights(shared_dir):
    golden = shared_dir / "golden"
    new, old = (
        convert.import_checkpoint(golden / name, golden / "fomm_tiny.yaml", align_corners=False)
        for name in ("fomm_tiny.pth.tar", "fomm_tiny_legacy.pth.tar")
    )
    assert new[0] == old[0]
    jax.tree.map(np.testing.assert_array_equal, new[1], old[1])


def test_wrong_config_is_described_in_a_sentence(golden_dir):
    with pytest.raises(CheckpointError) as caught:
        convert.import_checkpoint(golden_dir / "fomm_tiny.pth.tar")
    message = str(caught.value)
    assert "missing" in message
    assert "misshapen" in message
    assert len(message) <= 300
    assert "\n" not in message
    wanted = "predictor/encoder/down_blocks_0/conv/kernel is (3, 3, 3, 16), not (3, 3, 3, 64)"
    assert any(wanted in line for line in caught.value.details)


def test_missing_and_extra_tensors_are_named(golden_dir):
    golden = golden_dir
    states = read_torch_file(golden / "fomm_tiny.pth.tar")
    states["generator"]["final.wait"] = states["generator"].pop("final.bias")
    with pytest.raises(
        CheckpointError, match=r"1 missing: generator/params/final/bias; 1 not known: .*final"
    ) as caught:
        convert.to_tree(states, convert.config_from_yaml(golden / "fomm_tiny.yaml"))
    assert len(caught.value.details) == 2


def test_published_sampling_is_the_default(golden_dir):
    golden = golden_dir
    config, _ = convert.import_checkpoint(golden / "fomm_tiny.pth.tar", golden / "fomm_tiny.yaml")
    assert config.align_corners is True


def _zip_checkpoint(path, payload):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", payload)
    return path


class _Evil:
    def __reduce__(self):
        return (print, ("this must never be printed",))


def test_checkpoint_with_code_is_refused(tmp_path, capsys):
    evil = pickle.dumps({"generator": _Evil()}, protocol=2)
    legacy = io.BytesIO()
    for part in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}):
        pickle.dump(part, legacy, protocol=2)
    legacy.write(evil)
    (tmp_path / "old.pth").write_bytes(legacy.getvalue())
    for path in (_zip_checkpoint(tmp_path / "new.pth", evil), tmp_path / "old.pth"):
        with pytest.raises(CheckpointError, match="could run code"):
            read_torch_file(path)
    assert "never" not in capsys.readouterr().out


@pytest.mark.parametrize("content", [b"hello", b"\x80\x02K\x01.", pickle.dumps([1, 2])])
def test_files_of_other_kinds_are_refused(tmp_path, content):
    path = tmp_path / "weights.pth.tar"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"weights\.pth\.tar"):
        read_torch_file(path)


def test_missing_file_is_refused(tmp_path):
    with pytest.raises(InputError, match="no checkpoint file"):
        read_torch_file(tmp_path / "nowhere.pth")


@pytest.mark.shared
def test_truncated_checkpoints_are_refused(shared_dir, tmp_path):
    for name in ("fomm_tiny.pth.tar", "fomm_tiny_legacy.pth.tar"):
        whole = (shared_dir / "golden" / name).read_bytes()
        cut = tmp_path / name
        for share in (0.1, 0.5, 0.999):
            cut.write_bytes(whole[: int(len(whole) * share)])
            with pytest.raises(CheckpointError):
                read_torch_file(cut)


def test_checkpoint_of_another_network_is_refused(tmp_path):
    path = _zip_checkpoint(tmp_path / "other.pth", pickle.dumps(collections.OrderedDict(model={}), protocol=2))
    with pytest.raises(CheckpointError, match="not a FOMM checkpoint"):
        convert.import_checkpoint(path)


def test_yaml_of_another_kind_is_refused(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("train: 1\n")
    with pytest.raises(ConfigError, match="not a FOMM config"):
        convert.config_from_yaml(path)
    path.write_text(
        "model_params: {common_params: {num_kp: 10, num_channels: 3, estimate_jacobian: true},"
        " kp_detector_params: {temperature: 0.1, depth: 3}, discriminator_params: {},"
        " generator_params: {dense_motion_params: {}}}\n"
    )
    with pytest.raises(ConfigError, match="depth has no counterpart"):
        convert.config_from_yaml(path)


_MODEL = (
    "model_params:\n  common_params: {num_kp: 10, num_channels: 3, estimate_jacobian: true}\n"
    "  kp_detector_params: {temperature: 0.1, KP}\n  discriminator_params: {}\n"
    "  generator_params: {dense_motion_params: {}}\n"
)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("x: &a [1]\n" + "y: &b [" + "*a, " * 100 + "]\nz: [" + "*b, " * 101 + "]\n", "aliases"),
        ("x: &a [*a]\n", "aliases"),
        ("[" * 600, "not a YAML file"),
        ("x: " + "9" * 5000, "not a YAML file"),
        ("x: 2020-99-99", "not a YAML file"),
        ("x: " + "a" * 32_001, "larger than 32 kB"),
        (_MODEL.replace("KP", "block_expansion: 1000000000"), "block_expansion must be from 0 to 65536"),
        (_MODEL.replace("KP", "num_blocks: 1000000"), "num_blocks must be from 0 to 64"),
        (_MODEL.replace("KP", "num_blocks: -1"), "num_blocks must be from 0 to 64"),
        (_MODEL.replace("KP", "num_blocks: three"), "num_blocks must be int, not 'three'"),
        (_MODEL.replace("KP", f"num_blocks: {'x' * 5000}"), "num_blocks must be int, not 'xxx"),
        (_MODEL.replace("KP", "scale_factor: .nan"), "scale_factor must be a finite number"),
        (_MODEL.replace("KP", f"? {'x' * 5000}\n  : 1"), "has no counterpart"),
        (_MODEL.replace("KP", ", ".join(f"x{i}: 1" for i in range(2000))), "1997 more has no counterpart"),
        (_MODEL.replace("num_kp: 10", "num_kp: [10]").replace(", KP", ""), "num_keypoints must be int"),
        (_MODEL.replace("num_channels: 3, ", "").replace(", KP", ""), "'num_channels' is missing"),
    ],
)  # fmt: skip
def test_hostile_configs_are_refused_in_a_sentence(tmp_path, text, wanted):
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=wanted) as caught:
        convert.config_from_yaml(path)
    assert len(str(caught.value)) <= 300


def test_networks_that_cannot_be_built_are_refused(golden_dir):
    states = read_torch_file(golden_dir / "fomm_tiny.pth.tar")
    config = fomm.FommConfig(image_size=4)
    with pytest.raises((ConfigError, CheckpointError)):
        convert.to_tree(states, config)


def test_checkpoint_without_a_discriminator():
    config = fomm.FommConfig()
    shapes = jax.eval_shape(lambda k: fomm.init(config, k), jax.random.key(0))
    guess = convert.guess_config({"kp_detector": {}, "generator": {}})
    assert guess == fomm.without_jacobian(fomm.vox_256())
    assert set(shapes) == {"keypoint_detector", "generator", "discriminator"}

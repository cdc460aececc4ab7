"""AVFR-GAN and face-vid2vid train from their command on two processes of four devices each, and resume bit for bit."""

import os
import pathlib
import shutil
import socket
import subprocess
import sys

import pytest

from avfr_jax.training.logging import read_metrics
from data.clip_folder import prepare_synthetic

ROOT = pathlib.Path(__file__).resolve().parents[2]
COMMON = {
    "model.image_size": 32,
    "data.size": 32,
    "model.keypoint_detector.block_expansion": 4,
    "model.keypoint_detector.num_blocks": 1,
    "model.dense_motion.block_expansion": 4,
    "model.dense_motion.num_blocks": 1,
    "model.generator.block_expansion": 4,
    "model.generator.num_down_blocks": 1,
    "losses.structural": 0,
    "losses.face_parts": 0,
    "data.batch_size": 8,
    "held_out.path": "",
    "held_out.share": 0,
    "loop.log_every": 1,
    "loop.checkpoint_every": 2,
    "loop.validate_every": 0,
    "loop.panel_every": 0,
    "optimiser.warmup_steps": 1,
    "optimiser.decay_steps": 4,
}
SMALL = {
    "avfr128": {
        "model.num_keypoints": 2,
        "model.keypoint_detector.scale_factor": 0.5,
        "model.dense_motion.scale_factor": 0.5,
        "model.generator.num_bottleneck_blocks": 1,
        "model.audio.block_expansion": 4,
        "model.audio.max_features": 8,
        "model.identity.block_expansion": 4,
        "model.identity.hidden": 4,
        "losses.scales": 1,
        "losses.equivariance_jacobian": 0,
        "losses.equivariance_value": 0,
    },
    "face_vid2vid128": {
        "model.num_keypoints": 4,
        "model.keypoint_detector.depth": 2,
        "model.head_pose.block_expansion": 4,
        "model.head_pose.max_features": 8,
        "model.head_pose.stage_blocks": "1,1",
        "model.generator.volume_channels": 4,
        "model.generator.volume_depth": 2,
        "model.generator.num_resblocks": 1,
        "model.discriminator.num_blocks": 2,
        "model.discriminator.block_expansion": 4,
        "losses.pyramid_l1.scales": 1,
        "losses.warped_l1.scales": 1,
        "losses.adversarial": 1,
        "losses.adversarial.kind": "hinge",
    },
}


def train(config, dataset, workdir, steps):
    """Two processes until the end of the run."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    words = ["--config", config, "--workdir", str(workdir), "--data.path", str(dataset), "--loop.steps", str(steps)]
    small = COMMON | SMALL[config]
    words += [word for name, value in small.items() for word in (f"--{name}", str(value))]
    flags = "--xla_force_host_platform_device_count=4 --xla_backend_optimization_level=1"
    cache = {"JAX_COMPILATION_CACHE_DIR": str(workdir.parent / "cache"), "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "experiments.train", *words, "--distributed", f"localhost:{port},2,{index}"],
            cwd=ROOT,
            env={**os.environ, **cache},
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(2)
    ]
    try:
        logs = [process.communicate(timeout=600)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], logs
    assert "8 cpu device(s)" in logs[0]
    return [
        {name: value for name, value in line.items() if not name.startswith("speed/")}
        for line in read_metrics(workdir / "metrics.jsonl")
    ]


@pytest.mark.heavy
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("config", list(SMALL))
def test_two_processes_of_four_devices_resume_bit_for_bit(config, tmp_path):
    pytest.importorskip("mediapipe")
    dataset, whole, again = tmp_path / "heads", tmp_path / "whole", tmp_path / "again"
    prepare_synthetic(dataset, clips=4, frames=4, size=32)
    expected = train(config, dataset, whole, 4)
    assert [line["step"] for line in expected] == [1, 2, 3, 4]
    shutil.copytree(whole, again)
    shutil.rmtree(again / "checkpoints" / "4")  # as after a kill behind step 2
    assert train(config, dataset, again, 4) == expected

"""A first order motion model of 0.15 M parameters on rendered heads: shows that training works on this machine.

    python -m experiments.train --config experiments/configs/tiny.py

Needs no data and no weights: twelve clips of synthetic heads at 64 × 64 are rendered into the work folder first.

Expected: the validation L1 falls, 0.090 at step 100, 0.060 at step 200, 0.054 at step 300; the run is too short to beat
copying the first frame (0.034: these heads move little).
Time: 2 minutes on two cores of a server, rendering and compilation included.
"""

from avfr_jax.models.dense_motion import DenseMotionConfig
from avfr_jax.models.discriminators import DiscriminatorConfig
from avfr_jax.models.fomm import FommConfig, GeneratorConfig
from avfr_jax.models.keypoints import KeypointDetectorConfig
from avfr_jax.training.loop import LoopConfig
from avfr_jax.training.optimisers import OptimiserConfig
from avfr_jax.training.step import StepConfig
from avfr_jax.training.terms import EquivarianceJacobian, EquivarianceValue, PyramidL1, Structural
from avfr_jax.training.validation import ValidationConfig
from experiments.experiment import Experiment, HeldOutConfig, SyntheticConfig
from pipelines.config import DataConfig

CONFIG = Experiment(
    name="tiny",
    model=FommConfig(
        image_size=64,
        num_keypoints=5,
        keypoint_detector=KeypointDetectorConfig(block_expansion=8, num_blocks=3, max_features=32, scale_factor=0.5),
        dense_motion=DenseMotionConfig(block_expansion=8, num_blocks=3, max_features=32, scale_factor=0.5),
        generator=GeneratorConfig(block_expansion=8, max_features=32, num_bottleneck_blocks=2),
        discriminator=DiscriminatorConfig(block_expansion=8, max_features=32, num_blocks=3),
    ),
    # No frozen network: a pyramid of absolute differences and SSIM stand for the perceptual loss.
    losses=(PyramidL1(10.0), Structural(1.0), EquivarianceValue(), EquivarianceJacobian()),
    optimiser=OptimiserConfig(learning_rate=1e-3),
    data=DataConfig(batch_size=8, size=64, threads=2, prefetch=2),
    synthetic=SyntheticConfig(clips=12, frames=24, people=12),
    held_out=HeldOutConfig(share=0.17),
    validation=ValidationConfig(stride=4, frames_per_clip=6),
    loop=LoopConfig(
        steps=300, log_every=20, validate_every=100, panel_every=150, panel_rows=2, checkpoint_every=100, keep_last=2
    ),
    step=StepConfig(ema_decay=0.98),
)

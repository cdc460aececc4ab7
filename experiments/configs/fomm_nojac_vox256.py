"""FOMM with keypoint positions alone, no Jacobians: 20 numbers a frame instead of 60, for video calls.

    python -m experiments.train --config experiments/configs/fomm_nojac_vox256.py --data.path vox/train \\
        --held_back.path vox/test

Everything else, data and schedule too, is `fomm_vox256`: 79 500 steps of 40 pairs on VoxCeleb's 424 people.

Expected: on VoxCeleb the Jacobians are worth little in L1; the paper's ablation without them is on Tai-Chi alone, so
there is no published figure. Not run to its end by us.
Time: as `fomm_vox256`; `python -m experiments.compile_check --config fomm_nojac_vox256 --identities 424` says it.
"""

from avfr_jax.models.fomm import vox_256, without_jacobian
from avfr_jax.training.loop import LoopConfig
from avfr_jax.training.objectives.fomm import FommLossConfig
from avfr_jax.training.optimisers import OptimiserConfig
from avfr_jax.training.validation import ValidationConfig
from experiments.experiment import Experiment, HeldBackConfig, ScheduleConfig
from pipelines.augment import AugmentConfig
from pipelines.loader import DataConfig

CONFIG = Experiment(
    name="fomm_nojac_vox256",
    model=without_jacobian(vox_256()),
    losses=FommLossConfig(generator_gan=0.0, equivariance_jacobian=0.0),
    optimiser=OptimiserConfig(learning_rate=2e-4, b1=0.5, b2=0.999, gamma=0.1),
    schedule=ScheduleConfig(epochs=100, milestones=(60, 90)),
    data=DataConfig(path="vox/train", batch_size=40, size=256, repeats=75, workers=6),
    augment=AugmentConfig(brightness=0.1, contrast=0.1, saturation=0.1, hue=0.1, flip=True),
    held_back=HeldBackConfig(path="vox/test"),
    validation=ValidationConfig(stride=10, frames_per_clip=10, clips=50),
    loop=LoopConfig(steps=0, validate_every=2000, checkpoint_every=2000),
)

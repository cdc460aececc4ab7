"""FOMM on VoxCeleb at 256 × 256 without an adversarial loss (Siarohin et al. 2019; the authors' `vox-256.yaml`).

    python -m experiments.train --config experiments/configs/fomm_vox256.py --data.path vox/train \\
        --held_out.path vox/test

Both folders are made by `python -m data.clip_folder` from VoxCeleb's videos; VGG19's weights are imported once with
`avfr import vgg19 FILE`. The published run: 424 people, 100 epochs of 75 pairs of each, 40 a step, which is 79 500
steps; the learning rate falls by ten at epochs 60 and 90.

Expected: L1 0.043 on the test clips (the paper's table 3; AKD 1.294, AED 0.140). Not run to its end by us.
Time: `python -m experiments.compile_check --config fomm_vox256 --identities 424` estimates it on a TPU slice.
The discriminator of the authors' file has no weight in its generator's loss, so none is trained here.
"""

from avfr_jax.models.fomm import vox_256
from avfr_jax.training.loop import LoopConfig
from avfr_jax.training.optimisers import OptimiserConfig
from avfr_jax.training.terms import EquivarianceJacobian, EquivarianceValue, Perceptual
from avfr_jax.training.validation import ValidationConfig
from experiments.experiment import Experiment, HeldOutConfig, ScheduleConfig
from pipelines.augment import AugmentConfig
from pipelines.config import DataConfig

CONFIG = Experiment(
    name="fomm_vox256",
    model=vox_256(),
    losses=(Perceptual(), EquivarianceValue(), EquivarianceJacobian()),
    optimiser=OptimiserConfig(learning_rate=2e-4, b1=0.5, b2=0.999, gamma=0.1),
    schedule=ScheduleConfig(epochs=100, milestones=(60, 90)),
    data=DataConfig(path="vox/train", batch_size=40, size=256, repeats=75, workers=6),
    augment=AugmentConfig(brightness=0.1, contrast=0.1, saturation=0.1, hue=0.1, flip=True),
    held_out=HeldOutConfig(path="vox/test"),
    validation=ValidationConfig(stride=10, frames_per_clip=10, clips=50),
    loop=LoopConfig(steps=0, validate_every=2000, checkpoint_every=2000),
)

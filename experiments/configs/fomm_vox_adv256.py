"""FOMM on VoxCeleb at 256 × 256 with its adversarial loss (the authors' `config/vox-adv-256.yaml`, whose weights most
people use).

    python -m experiments.train --config experiments/configs/fomm_vox_adv256.py --data.path vox/train \\
        --held_back.path vox/test

Data and VGG19 as for `fomm_vox256`. The published run: 424 people, 150 epochs of 75 pairs of each, 36 a step, which is
132 450 steps at a learning rate that stays.

Expected: the authors give no figures for it; its pictures are sharper than those of `fomm_vox256` and its L1 about the
same (0.043). Not run to its end by us.
Time: `python -m experiments.compile_check --config fomm_vox_adv256 --identities 424` says how long it takes on a slice.
"""

from avfr_jax.models.fomm import vox_adv_256
from avfr_jax.training.loop import LoopConfig
from avfr_jax.training.objectives.fomm import FommLossConfig
from avfr_jax.training.optimisers import OptimiserConfig
from avfr_jax.training.validation import ValidationConfig
from experiments.experiment import Experiment, HeldBackConfig, ScheduleConfig
from pipelines.augment import AugmentConfig
from pipelines.loader import DataConfig

CONFIG = Experiment(
    name="fomm_vox_adv256",
    model=vox_adv_256(),
    losses=FommLossConfig(generator_gan=1.0, discriminator_gan=1.0, gan="least_squares"),
    optimiser=OptimiserConfig(learning_rate=2e-4, b1=0.5, b2=0.999),
    schedule=ScheduleConfig(epochs=150),
    data=DataConfig(path="vox/train", batch_size=36, size=256, repeats=75, workers=6),
    augment=AugmentConfig(brightness=0.1, contrast=0.1, saturation=0.1, hue=0.1, flip=True),
    held_back=HeldBackConfig(path="vox/test"),
    validation=ValidationConfig(stride=10, frames_per_clip=10, clips=50),
    loop=LoopConfig(steps=0, validate_every=2000, checkpoint_every=2000),
)

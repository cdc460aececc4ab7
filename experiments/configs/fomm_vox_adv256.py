"""FOMM on VoxCeleb at 256 × 256 with its adversarial loss (the authors' `config/vox-adv-256.yaml`, whose weights most
people use).

    python -m experiments.train --config experiments/configs/fomm_vox_adv256.py --data.path vox/train \\
        --held_out.path vox/test

Data and VGG19 as for `fomm_vox256`. The published run: 424 people, 150 epochs of 75 pairs of each, 36 a step, which is
132 450 steps at a learning rate that stays.

Expected: the authors give no figures for it; its pictures are sharper than those of `fomm_vox256` and its L1 about the
same (0.043). Not run to its end by us.
Time: `python -m experiments.compile_check --config fomm_vox_adv256 --identities 424` estimates it on a TPU slice.
"""

import dataclasses

from avfr_jax.models.fomm import vox_adv_256
from avfr_jax.training.optimisers import OptimiserConfig
from avfr_jax.training.terms import FOMM_TERMS
from experiments.configs.fomm_vox256 import CONFIG as WITHOUT
from experiments.experiment import ScheduleConfig

CONFIG = dataclasses.replace(
    WITHOUT,
    name="fomm_vox_adv256",
    model=vox_adv_256(),
    losses=FOMM_TERMS,
    optimiser=OptimiserConfig(learning_rate=2e-4, b1=0.5, b2=0.999),
    schedule=ScheduleConfig(epochs=150),
    data=dataclasses.replace(WITHOUT.data, batch_size=36),
)

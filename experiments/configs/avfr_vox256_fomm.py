"""AVFR-GAN with FOMM's weights of the losses and FOMM's optimiser, on VoxCeleb at 256 × 256.

    python -m experiments.train --config experiments/configs/avfr_vox256_fomm.py --data.path vox/train \\
        --held_out.path vox/test

The networks of `avfr_vox256`; VGG19's perceptual loss on four scales, least-squares adversarial loss with feature
matching, equivariance ten times the paper's, Adam at 2e-4 with β = (0.5, 0.999). For those who find 1e-3 too brisk.

Expected: no published figures.
Time: as `avfr_vox256`, and a third more for VGG19.
"""

import dataclasses

from avfr_jax.training.optimisers import OptimiserConfig
from avfr_jax.training.terms import FOMM_TERMS
from experiments.configs.avfr_vox256 import CONFIG as PAPER

CONFIG = dataclasses.replace(
    PAPER,
    name="avfr_vox256_fomm",
    losses=FOMM_TERMS,
    optimiser=OptimiserConfig(learning_rate=2e-4, b1=0.5, b2=0.999, gamma=0.1),
)

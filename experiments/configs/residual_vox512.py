"""Binary residual coding as published (Wang et al. 2021, appendix C.3): 32 × 64 × 64 bits of a frame of 512 × 512, at
the optimiser's settings of the whole model. The paper states no losses for it; these are its picture losses.

    python -m experiments.train --config experiments/configs/residual_vox512.py --data.path CLIPS

Expected: 13.4 KB a repair after arithmetic coding. It has not been run. Needs VGG-19's weights (see README).
Time: not known yet.
"""

import dataclasses

from avfr_jax.models.residual import ResidualConfig
from avfr_jax.training.terms import Adversarial, FeatureMatching, Perceptual
from experiments.configs.residual256 import CONFIG as SMALL

CONFIG = dataclasses.replace(
    SMALL,
    name="residual_vox512",
    model=ResidualConfig(),
    losses=(Perceptual(), Adversarial(1.0, "hinge"), FeatureMatching()),
    optimiser=dataclasses.replace(
        SMALL.optimiser, learning_rate=2e-4, schedule="milestones", warmup_steps=0, clip_norm=0.0
    ),
    data=dataclasses.replace(SMALL.data, path="", size=512),
    held_out=dataclasses.replace(SMALL.held_out, path=""),
    loop=dataclasses.replace(SMALL.loop, steps=100_000),
)

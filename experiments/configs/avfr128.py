"""AVFR-GAN at 128 × 128, narrow enough to be trained on a processor.

    python -m experiments.train --config experiments/configs/avfr128.py --data.path clips,stills,heads \\
        --held_out.path held_out

The folders are those of `mesh_fomm256`; frames of 256 × 256 are read at half their size. A part is switched off with
`--model.identity_aware_generator false`, the sound with `--model.audio_encoder false --model.audio_attention false
--data.mel false`, the structural prior with `--model.structural_prior false --data.priors false`; `python -m
experiments.ablation` trains every row of the paper's table so and compares them.

Losses that need no frozen network and no discriminator: mean absolute difference over a pyramid and over lips and eyes,
SSIM, equivariance and spread of the keypoints.

Expected: 2,400 steps on forty people: L1 on unseen identities 0.051 at 128 × 128, 0.065 for copying; the weights are
`avfr128`.
Time: 3.2 pairs a second measured on one quiet core of a server, which would be 1.7 hours; ours shared its core.
"""

import dataclasses

from avfr_jax.models.avfr import AudioConfig, AvfrConfig, IdentityConfig
from avfr_jax.models.dense_motion import DenseMotionConfig
from avfr_jax.models.fomm import GeneratorConfig
from avfr_jax.models.keypoints import KeypointDetectorConfig
from avfr_jax.training.terms import (
    EquivarianceJacobian,
    EquivarianceValue,
    FaceParts,
    KeypointSpread,
    PyramidL1,
    Structural,
)
from experiments.configs.mesh_fomm128 import CONFIG as MESH

CONFIG = dataclasses.replace(
    MESH,
    name="avfr128",
    family="avfr",
    model=AvfrConfig(
        image_size=128,
        keypoint_detector=KeypointDetectorConfig(block_expansion=16, num_blocks=4, max_features=128),
        dense_motion=DenseMotionConfig(block_expansion=16, num_blocks=4, max_features=128),
        generator=GeneratorConfig(block_expansion=16, max_features=64, num_bottleneck_blocks=3),
        audio=AudioConfig(block_expansion=8, max_features=64, features=16),
        identity=IdentityConfig(block_expansion=8, max_features=64, num_bottleneck_blocks=1, condition=16, hidden=16),
    ),
    losses=(
        PyramidL1(10.0),
        Structural(1.0),
        FaceParts(2.0),
        KeypointSpread(10.0),
        EquivarianceValue(10.0),
        EquivarianceJacobian(1.0),
    ),
    optimiser=dataclasses.replace(MESH.optimiser, learning_rate=6e-4),
    data=dataclasses.replace(MESH.data, mel=True),
)

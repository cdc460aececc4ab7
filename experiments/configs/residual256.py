"""Binary residual coding of frames that `landmark-warp` renders at 256 × 256, small enough for a CPU.

    python -m experiments.train --config experiments/configs/residual256.py --data.path clips,heads \\
        --held_out.path held_out

The folders are those of `mesh_fomm256`, without stills, which `landmark-warp` reproduces. Encoder and decoder read the
rendered frame, a cell is a square of 16 × 16 pixels of 32 bits: 1 KB for the whole frame before the arithmetic coder.
No frozen network is needed: SSIM and a pyramid of absolute differences stand for LPIPS.

Expected: on unseen identities, after 3,000 steps on forty people, an `l1` of 0.024 (`landmark-warp`: 0.045), and 0.030
with a sixteenth of the bits (`l1_few`); the weights are `residual256`.
Time: 0.72 steps a second on one core of a server, an hour and ten minutes.
"""

import dataclasses

from avfr_jax.models.discriminators import DiscriminatorConfig
from avfr_jax.models.residual import ResidualConfig
from avfr_jax.training.terms import PyramidL1, Structural
from experiments.configs.mesh_fomm256 import CONFIG as MESH_FOMM
from pipelines.augment import AugmentConfig

CONFIG = dataclasses.replace(
    MESH_FOMM,
    name="residual256",
    family="residual",
    model=ResidualConfig(
        image_size=256,
        fold=2,
        halvings=3,
        width=48,
        bits=32,
        decoder_width=128,
        conditional=True,
        discriminator=DiscriminatorConfig(block_expansion=16, num_blocks=3, max_features=64, use_keypoints=False),
    ),
    losses=(PyramidL1(10.0), Structural(1.0)),
    optimiser=dataclasses.replace(MESH_FOMM.optimiser, learning_rate=1e-3, gamma=0.01),
    data=dataclasses.replace(MESH_FOMM.data, path="clips,heads", batch_size=8),
    augment=AugmentConfig(brightness=0.1, contrast=0.1, saturation=0.1, hue=0.03),
    loop=dataclasses.replace(MESH_FOMM.loop, steps=3000, validate_every=500, checkpoint_every=250, panel_every=500),
)

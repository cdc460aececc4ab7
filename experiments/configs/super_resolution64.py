"""Patch-wise super-resolution with k = 64, narrow enough to be trained on a processor.

    python -m experiments.train --config experiments/configs/super_resolution64.py --data.path clips,stills,heads \\
        --held_out.path held_out

The folders are those of `mesh_fomm256`; portraits serve as well as clips, since single frames are read. The network
works on squares of 2 × 2 pixels, which loses nothing after bicubic upscaling. No frozen network is needed: SSIM and
pyramid L1 stand for LPIPS. The factor is an input of the network (`model.factor_input`); without it, it was worse than
bicubic at twice the size. 0.2 M parameters. For the weights in the package 900 more steps followed with `--init_from
runs/larger/model --losses.adversarial 0 --optimiser.learning_rate 5e-4 --loop.steps 900`.

Expected: after both, on forty identities: frames of unseen identities upscaled twice at L1 0.0070 and PSNR 38.4,
bicubic 0.0072 and 37.9; four times at L1 0.0131, bicubic 0.0148; the weights are `super_resolution64`.
Time: under half an hour for both on one core of a server, measured beside another training.
"""

import dataclasses

from avfr_jax.models.discriminators import DiscriminatorConfig
from avfr_jax.models.super_resolution import SuperResolutionConfig
from avfr_jax.nn.unet import UNetConfig
from experiments.configs.interpolation128 import CONFIG as INTERPOLATION

CONFIG = dataclasses.replace(
    INTERPOLATION,
    name="super_resolution64",
    family="super-resolution",
    model=SuperResolutionConfig(
        patch_size=64,
        factor_input=True,
        network=UNetConfig(block_expansion=16, num_blocks=3, max_features=128, fold=2),
        discriminator=DiscriminatorConfig(block_expansion=16, num_blocks=3, max_features=64, use_keypoints=False),
    ),
    data=dataclasses.replace(
        INTERPOLATION.data, path="clips,stills,heads", batch_size=16, size=256, frames="single", spans=()
    ),
    augment=dataclasses.replace(INTERPOLATION.augment, crop=64),
    validation=dataclasses.replace(INTERPOLATION.validation, span=0, frames_per_clip=3),
    loop=dataclasses.replace(INTERPOLATION.loop, steps=1600, validate_every=400),
)

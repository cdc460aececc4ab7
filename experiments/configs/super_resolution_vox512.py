"""Patch-wise super-resolution, trained on VoxCeleb's 256 × 256 frames to make 512 × 512 of them (Agarwal et al.,
"Compressing video calls", section 3; table 3).

    python -m experiments.train --config experiments/configs/super_resolution_vox512.py --data.path vox/train \\
        --held_out.path vox/test

Data and losses as `interpolation_vox256`, on single frames: crops of 64 × 64, downsampled by 2 to 6 and upsampled
back. The other rows of table 3 are `--model.patch_size 128 --augment.crop 128`, and 32 and 16 with `--model.overlap 8`
or 4 and a discriminator of fewer blocks (`--model.discriminator.num_blocks 3`).
Validation enlarges 128 × 128 to 256 × 256, where the truth is known.

Expected: the paper has figures of the whole codec alone (PSNR 27.47, SSIM 0.80, FID 20.16 at k = 64); `l1` is to be
read against `l1_bicubic`. It has not been run yet.
Time: not known yet; `python -m experiments.compile_check --config super_resolution_vox512 --identities 424` counts it.
"""

import dataclasses

from avfr_jax.models.super_resolution import SuperResolutionConfig
from experiments.configs.interpolation_vox256 import CONFIG as INTERPOLATION

CONFIG = dataclasses.replace(
    INTERPOLATION,
    name="super_resolution_vox512",
    family="super-resolution",
    model=SuperResolutionConfig(patch_size=64),
    data=dataclasses.replace(INTERPOLATION.data, batch_size=32, frames="single", spans=()),
    augment=dataclasses.replace(INTERPOLATION.augment, crop=64),
    validation=dataclasses.replace(INTERPOLATION.validation, span=0),
)

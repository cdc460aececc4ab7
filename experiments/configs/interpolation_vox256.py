"""Frame interpolation on VoxCeleb at 256 × 256 (Agarwal et al., "Compressing video calls", section 3; table 2).

    python -m experiments.train --config experiments/configs/interpolation_vox256.py --data.path vox/train \\
        --held_out.path vox/test

The folders are those of `fomm_vox256`; LPIPS is imported once with `avfr import alexnet FILE` and `avfr import lpips
FILE`. The paper's: three frames in a row, L1, LPIPS and adversarial loss with unit weights (eq. 3; the non-saturating
form, `--losses.adversarial.kind saturating` is the written one), Adam at 1e-3. Batch size and length, which it does not
give, are AVFR-GAN's. `--data.spans 2,4` adds frames further apart, between which three are interpolated.

Expected: the paper has figures of the whole codec alone (BPP 0.0048, PSNR 24.21, SSIM 0.78, FID 23.03 with one frame
of two interpolated); `l1` is to be read against `l1_mean`, that of the two frames' mean. It has not been run yet.
Time: not known yet; `python -m experiments.compile_check --config interpolation_vox256 --identities 424` counts it.
"""

import dataclasses

from avfr_jax.models.interpolation import InterpolationConfig
from avfr_jax.training.optimisers import OptimiserConfig
from avfr_jax.training.terms import Adversarial, LpipsDistance, PyramidL1
from experiments.configs.fomm_vox256 import CONFIG as FOMM

CONFIG = dataclasses.replace(
    FOMM,
    name="interpolation_vox256",
    family="interpolation",
    model=InterpolationConfig(image_size=256),
    losses=(PyramidL1(1.0, scales=(1.0,)), LpipsDistance(1.0), Adversarial(1.0, "non_saturating")),
    optimiser=OptimiserConfig(learning_rate=1e-3, gamma=0.1),
    data=dataclasses.replace(FOMM.data, batch_size=10, frames="triplet", spans=(2,)),
    validation=dataclasses.replace(FOMM.validation, span=2),
)

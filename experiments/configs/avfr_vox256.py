"""AVFR-GAN on VoxCeleb at 256 × 256, as the paper trains it (thesis, section 2.4; the last row of table 2.3).

    python -m experiments.train --config experiments/configs/avfr_vox256.py --data.path vox/train \\
        --held_out.path vox/test

Both folders are made by `python -m data.clip_folder` from VoxCeleb's videos, priors and sound included. LPIPS is
imported once with `avfr import alexnet FILE` and `avfr import lpips FILE`. The published run: 100 epochs of 75 pairs of
each person, 10 a step; the learning rate 1e-3 falls by ten at epochs 60 and 90; about 10 days on four RTX 3080 Ti.
Losses have unit weights, as eq. 2.4 writes them; the adversarial term is the non-saturating form of eq. 2.3
(`--losses.adversarial.kind saturating` is the written one).

Expected: the paper's L1 0.034, PSNR 32.2, SSIM 0.824, FID 8.48 on the test clips. Not run to its end by us.
Time: `python -m experiments.compile_check --config avfr_vox256 --identities 424` estimates it on a TPU slice.
"""

import dataclasses

from avfr_jax.models.avfr import AvfrConfig
from avfr_jax.training.optimisers import OptimiserConfig
from avfr_jax.training.terms import Adversarial, EquivarianceJacobian, EquivarianceValue, LpipsDistance, PyramidL1
from experiments.configs.fomm_vox256 import CONFIG as FOMM

CONFIG = dataclasses.replace(
    FOMM,
    name="avfr_vox256",
    family="avfr",
    model=AvfrConfig(),
    losses=(
        PyramidL1(1.0, scales=(1.0,)),
        LpipsDistance(1.0),
        Adversarial(1.0, "non_saturating"),
        EquivarianceValue(1.0),
        EquivarianceJacobian(1.0),
    ),
    optimiser=OptimiserConfig(learning_rate=1e-3, gamma=0.1),
    data=dataclasses.replace(FOMM.data, batch_size=10, priors=True, mel=True),
)

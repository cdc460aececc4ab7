"""AVFR-GAN without its three parts: FOMM under AVFR-GAN's losses, the baseline of the ablation (thesis, table 2.3).

    python -m experiments.train --config experiments/configs/avfr_vox256_baseline.py --data.path vox/train \\
        --held_out.path vox/test

Data, losses and schedule are those of `avfr_vox256`.

Expected: the paper's SSIM / FID / Sync 0.74 / 11.04 / 5.17. Not run to its end by us.
Time: as `avfr_vox256` or less.
"""

import dataclasses

from avfr_jax.models.avfr import AvfrConfig, with_parts
from experiments.configs.avfr_vox256 import CONFIG as WHOLE

CONFIG = dataclasses.replace(
    WHOLE,
    name="avfr_vox256_baseline",
    model=with_parts(AvfrConfig()),
    data=dataclasses.replace(WHOLE.data, priors=False, mel=False),
)

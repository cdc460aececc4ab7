"""The baseline of AVFR-GAN with the identity-aware generator alone (thesis, table 2.3).

    python -m experiments.train --config experiments/configs/avfr_vox256_identity.py --data.path vox/train \\
        --held_out.path vox/test

Data, losses and schedule are those of `avfr_vox256`.

Expected: the paper's SSIM / FID / Sync 0.812 / 8.51 / 5.13. Not run to its end by us.
Time: as `avfr_vox256` or less.
"""

import dataclasses

from avfr_jax.models.avfr import AvfrConfig, with_parts
from experiments.configs.avfr_vox256 import CONFIG as WHOLE

CONFIG = dataclasses.replace(
    WHOLE,
    name="avfr_vox256_identity",
    model=with_parts(AvfrConfig(), "identity"),
    data=dataclasses.replace(WHOLE.data, priors=False, mel=False),
)

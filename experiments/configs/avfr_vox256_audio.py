"""The baseline of AVFR-GAN with the audio prior alone (thesis, table 2.3).

    python -m experiments.train --config experiments/configs/avfr_vox256_audio.py --data.path vox/train \\
        --held_out.path vox/test

Data, losses and schedule are those of `avfr_vox256`.

Expected: the paper's SSIM / FID / Sync 0.79 / 8.69 / 5.48. Not run to its end by us.
Time: as `avfr_vox256` or less.
"""

import dataclasses

from avfr_jax.models.avfr import AvfrConfig, with_parts
from experiments.configs.avfr_vox256 import CONFIG as WHOLE

CONFIG = dataclasses.replace(
    WHOLE,
    name="avfr_vox256_audio",
    model=with_parts(AvfrConfig(), "audio"),
    data=dataclasses.replace(WHOLE.data, priors=False),
)

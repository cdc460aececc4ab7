"""FOMM with keypoint positions alone, no Jacobians: 20 numbers a frame instead of 60, for video calls.

    python -m experiments.train --config experiments/configs/fomm_nojac_vox256.py --data.path vox/train \\
        --held_out.path vox/test

Everything else, data and schedule too, is `fomm_vox256`: 79 500 steps of 40 pairs on VoxCeleb's 424 people.

Expected: on VoxCeleb the Jacobians are worth little in L1; the paper's ablation without them is on Tai-Chi alone, so
there is no published figure. Not run to its end by us.
Time: as `fomm_vox256`; `python -m experiments.compile_check --config fomm_nojac_vox256 --identities 424` estimates it.
"""

import dataclasses

from avfr_jax.models.fomm import vox_256, without_jacobian
from avfr_jax.training.terms import EquivarianceValue, Perceptual
from experiments.configs.fomm_vox256 import CONFIG as WITH_JACOBIANS

CONFIG = dataclasses.replace(
    WITH_JACOBIANS,
    name="fomm_nojac_vox256",
    model=without_jacobian(vox_256()),
    losses=(Perceptual(), EquivarianceValue()),
)

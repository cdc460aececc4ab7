"""`mesh-fomm` at 256 × 256, 2.2 M parameters: small enough to play on a processor.

    python -m experiments.train --config experiments/configs/mesh_fomm256.py --data.path clips,stills,heads \\
        --held_out.path held_out

`clips` and `held_out` are made by `python -m data.clip_folder` from videos, `stills` by the same with `--stills` from
portraits, `heads` by `data.clip_folder.prepare_synthetic`; folders can be left out. No frozen network is needed.

Expected: from the model of `mesh_fomm128` (`--init_from runs/mesh_fomm128/model --loop.steps 1700`) an L1 on held-out
people about 0.61 times that of copying the first frame; the shipped `mesh-fomm` is that.
Time: 2.8 pairs a second on two cores of a server; days there are hours on any GPU.
"""

from avfr_jax.models.mesh_fomm import MeshFommConfig
from avfr_jax.training.loop import LoopConfig
from avfr_jax.training.optimisers import OptimiserConfig
from avfr_jax.training.step import StepConfig
from avfr_jax.training.terms import (
    EquivarianceJacobian,
    EquivarianceValue,
    FaceParts,
    KeypointSpread,
    PyramidL1,
    Structural,
    WarpedL1,
)
from avfr_jax.training.validation import ValidationConfig
from experiments.experiment import Experiment, HeldOutConfig
from pipelines.augment import AugmentConfig
from pipelines.config import DataConfig
from pipelines.warp import WarpConfig

CONFIG = Experiment(
    name="mesh_fomm256",
    family="mesh-fomm",
    model=MeshFommConfig(image_size=256),
    losses=(
        PyramidL1(10.0),
        Structural(1.0),
        FaceParts(2.0),
        KeypointSpread(10.0),
        WarpedL1(5.0),
        EquivarianceValue(10.0),
        EquivarianceJacobian(10.0),
    ),
    optimiser=OptimiserConfig(learning_rate=3e-4, schedule="cosine", warmup_steps=100, clip_norm=5.0),
    data=DataConfig(
        path="clips,stills,heads", batch_size=4, size=256, landmarks=True, priors=True, threads=2, prefetch=2
    ),
    augment=AugmentConfig(
        brightness=0.1,
        contrast=0.1,
        saturation=0.1,
        hue=0.03,
        warp=WarpConfig(rotation=6.0, scale=0.08, shift=0.04, stills=0.02),
    ),
    held_out=HeldOutConfig(path="held_out"),
    validation=ValidationConfig(stride=15, frames_per_clip=5),
    loop=LoopConfig(steps=20_000, validate_every=400, checkpoint_every=200, panel_every=400),
    step=StepConfig(ema_decay=0.995),
)

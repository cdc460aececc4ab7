"""Frame interpolation at 128 × 128, narrow enough to be trained on a processor.

    python -m experiments.train --config experiments/configs/interpolation128.py --data.path clips,heads \\
        --held_out.path held_out

The folders are those of `mesh_fomm256`, without stills; frames of 256 × 256 are read at half their size. Frames are
matched first, and the network estimates the residual flow (`model.matching`), on squares of 2 × 2 pixels: without
matching, 3,000 steps did not get below the mean of the two frames. No frozen network is needed: SSIM and a pyramid of
absolute differences stand for LPIPS. Samples span two and four frames, since three intermediate frames are made from
one. 0.4 M parameters; frames of any size can be given to it.

Expected: 1,200 steps on forty people: on unseen identities, two frames apart, L1 0.0053 and PSNR 41.2, for the mean of
the two frames 0.0060 and 40.6; the weights are `interpolation128`.
Time: half an hour on one core of a server, measured beside another training.
"""

from avfr_jax.models.discriminators import DiscriminatorConfig
from avfr_jax.models.interpolation import InterpolationConfig
from avfr_jax.nn.unet import UNetConfig
from avfr_jax.training.loop import LoopConfig
from avfr_jax.training.optimisers import OptimiserConfig
from avfr_jax.training.step import StepConfig
from avfr_jax.training.terms import Adversarial, PyramidL1, Structural
from avfr_jax.training.validation import ValidationConfig
from experiments.experiment import Experiment, HeldOutConfig
from pipelines.augment import AugmentConfig
from pipelines.config import DataConfig

CONFIG = Experiment(
    name="interpolation128",
    family="interpolation",
    model=InterpolationConfig(
        image_size=128,
        matching=True,
        network=UNetConfig(block_expansion=24, num_blocks=3, max_features=128, fold=2),
        discriminator=DiscriminatorConfig(block_expansion=16, num_blocks=3, max_features=64, use_keypoints=False),
    ),
    losses=(PyramidL1(10.0), Structural(1.0), Adversarial(0.05, "non_saturating")),
    optimiser=OptimiserConfig(learning_rate=1e-3, schedule="cosine", gamma=0.01, warmup_steps=100, clip_norm=5.0),
    data=DataConfig(path="clips,heads", batch_size=8, size=128, frames="triplet", spans=(2, 4), threads=2, prefetch=2),
    augment=AugmentConfig(brightness=0.1, contrast=0.1, saturation=0.1, hue=0.03),
    held_out=HeldOutConfig(path="held_out"),
    validation=ValidationConfig(stride=15, frames_per_clip=5, span=2),
    loop=LoopConfig(steps=1200, validate_every=200, checkpoint_every=200, panel_every=400),
    step=StepConfig(ema_decay=0.995),
)

"""face-vid2vid on VoxCeleb2 at 256 × 256 (Wang et al. 2021): the first, coarse part of its training.

    python -m experiments.train --config experiments/configs/face_vid2vid_vox256.py --data.path vox2/train \\
        --held_out.path vox2/test

Both folders are made by `python -m data.clip_folder` from VoxCeleb2's videos (280,000 of high bit rate in the paper);
VGG19's weights are imported once with `avfr import vgg19 FILE`. VGG-Face's (`avfr import face-vgg FILE`) give the
second perceptual loss, which is left out without them, and Hopenet's (`avfr import hopenet FILE`) the head pose, which
the face mesh's solver gives without them; the log says so. 100 epochs of one pair of each clip at a learning rate that
stays; the paper states no batch size. `face_vid2vid_vox512` goes on from here.

Expected: on VoxCeleb2 L1 10.74 of 255, PSNR 24.37, SSIM 0.80, MS-SSIM 0.85, FID 69.13 and AKD 2.07 (the paper's table
1). Not run to its end by us.
Time: `python -m experiments.compile_check --config face_vid2vid_vox256 --identities 280000` estimates it on a TPU
slice; the paper's took eight V100.
"""

from avfr_jax.models.face_vid2vid import FaceVid2VidConfig
from avfr_jax.training.loop import LoopConfig
from avfr_jax.training.optimisers import OptimiserConfig
from avfr_jax.training.terms import FACE_VID2VID_TERMS
from avfr_jax.training.validation import ValidationConfig
from experiments.experiment import Experiment, HeldOutConfig, ScheduleConfig
from pipelines.augment import AugmentConfig
from pipelines.config import DataConfig

MODEL = FaceVid2VidConfig()
CONFIG = Experiment(
    name="face_vid2vid_vox256",
    family="face-vid2vid",
    model=MODEL,
    losses=FACE_VID2VID_TERMS,
    optimiser=OptimiserConfig(learning_rate=2e-4, b1=0.5, b2=0.999),
    schedule=ScheduleConfig(epochs=100),
    data=DataConfig(path="vox2/train", batch_size=32, size=256, repeats=1, balance="clip", landmarks=True, workers=6),
    augment=AugmentConfig(brightness=0.1, contrast=0.1, saturation=0.1, hue=0.1, flip=True),
    held_out=HeldOutConfig(path="vox2/test"),
    validation=ValidationConfig(stride=10, frames_per_clip=10, clips=50),
    loop=LoopConfig(steps=0, validate_every=5000, checkpoint_every=5000, panel_every=5000),
)

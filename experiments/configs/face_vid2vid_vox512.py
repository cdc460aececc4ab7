"""face-vid2vid on VoxCeleb2 at 512 × 512: the second, fine part of its training.

    python -m experiments.train --config experiments/configs/face_vid2vid_vox512.py --data.path vox2_512/train \\
        --held_out.path vox2_512/test --init_from runs/face_vid2vid_vox256/model

Ten epochs from the weights of `face_vid2vid_vox256`: keypoints, head pose and motion stay at the resolution they had,
the discriminator, which begins anew, judges two scales. The folders hold frames of 512 × 512 (`python -m
data.clip_folder ... --size 512`). Losses and learning rate are those of 256 × 256.

Expected: the paper gives no figures of VoxCeleb2 at 512 × 512. Not run by us.
Time: `python -m experiments.compile_check --config face_vid2vid_vox512 --identities 280000` estimates it on a TPU
slice.
"""

import dataclasses

from avfr_jax.models.face_vid2vid import at_size
from experiments.configs.face_vid2vid_vox256 import CONFIG as COARSE
from experiments.configs.face_vid2vid_vox256 import MODEL as COARSE_MODEL
from experiments.experiment import HeldOutConfig, ScheduleConfig

MODEL = at_size(COARSE_MODEL, 512)
CONFIG = dataclasses.replace(
    COARSE,
    name="face_vid2vid_vox512",
    model=MODEL,
    schedule=ScheduleConfig(epochs=10),
    data=dataclasses.replace(COARSE.data, path="vox2_512/train", size=512, batch_size=16),
    held_out=HeldOutConfig(path="vox2_512/test"),
    init_from="runs/face_vid2vid_vox256/model",
)

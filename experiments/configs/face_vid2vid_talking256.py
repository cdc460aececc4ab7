"""face-vid2vid on TalkingHead-1KH at 256 × 256 (Wang et al. 2021): the coarse part, and the base of its ablations.

    python -m experiments.train --config experiments/configs/face_vid2vid_talking256.py --data.path talking/train \\
        --held_out.path talking/test

TalkingHead-1KH is the authors' set of 180,000 videos, most of them of YouTube's; `data.clip_folder` prepares it like
any other. Everything else is `face_vid2vid_vox256`; `face_vid2vid_talking512` goes on from here.

Expected: L1 10.67 of 255, PSNR 24.20, SSIM 0.81, MS-SSIM 0.84, FID 52.08 and AKD 3.74 (the paper's table 1). Not run to
its end by us.
Time: as `face_vid2vid_vox256`, with fewer steps an epoch (`--identities 180000`).
"""

import dataclasses

from experiments.configs.face_vid2vid_vox256 import CONFIG as VOX
from experiments.experiment import HeldOutConfig

CONFIG = dataclasses.replace(
    VOX,
    name="face_vid2vid_talking256",
    data=dataclasses.replace(VOX.data, path="talking/train"),
    held_out=HeldOutConfig(path="talking/test"),
)

"""face-vid2vid with 10 keypoints (Wang et al. 2021, table 5).

    python -m experiments.train --config experiments/configs/face_vid2vid_talking256_10kp.py \\
        --data.path talking/train --held_out.path talking/test

Everything else is `face_vid2vid_talking256`, which has 20.

Expected: L1 11.49 of 255, PSNR 23.36, SSIM 0.79, MS-SSIM 0.82, FID 56.27, AKD 4.31 on
TalkingHead-1KH; the whole model 10.67, 24.20, 0.81, 0.84, 52.08, 3.74. Not run to its end by us.
Time: as `face_vid2vid_talking256`.
"""

import dataclasses

from experiments.configs.face_vid2vid_talking256 import CONFIG as WHOLE
from experiments.configs.face_vid2vid_vox256 import MODEL

CONFIG = dataclasses.replace(
    WHOLE,
    name="face_vid2vid_talking256_10kp",
    model=dataclasses.replace(MODEL, num_keypoints=10),
)

"""face-vid2vid with a motion field in two dimensions (Wang et al. 2021, table 5).

    python -m experiments.train --config experiments/configs/face_vid2vid_talking256_2d.py \\
        --data.path talking/train --held_out.path talking/test

The keypoints are projected onto the image, and features without depth are warped. Everything else is
`face_vid2vid_talking256`.

Expected: L1 11.64 of 255, PSNR 23.38, SSIM 0.79, MS-SSIM 0.82, FID 58.75, AKD 4.20 on
TalkingHead-1KH; the whole model 10.67, 24.20, 0.81, 0.84, 52.08, 3.74. Not run to its end by us.
Time: as `face_vid2vid_talking256`.
"""

import dataclasses

from experiments.configs.face_vid2vid_talking256 import CONFIG as WHOLE
from experiments.configs.face_vid2vid_vox256 import MODEL

CONFIG = dataclasses.replace(
    WHOLE,
    name="face_vid2vid_talking256_2d",
    model=dataclasses.replace(MODEL, warp="2d"),
)

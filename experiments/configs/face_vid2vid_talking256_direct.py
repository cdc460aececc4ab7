"""face-vid2vid with keypoints detected directly in each frame (Wang et al. 2021, table 5).

    python -m experiments.train --config experiments/configs/face_vid2vid_talking256_direct.py \\
        --data.path talking/train --held_out.path talking/test

No canonical keypoints, no pose and no expression are estimated, so that there is no head-pose and no deformation loss.
Everything else is `face_vid2vid_talking256`.

Expected: L1 10.84 of 255, PSNR 24.00, SSIM 0.80, MS-SSIM 0.83, FID 58.55, AKD 4.26 on
TalkingHead-1KH; the whole model 10.67, 24.20, 0.81, 0.84, 52.08, 3.74. Not run to its end by us.
Time: as `face_vid2vid_talking256`.
"""

import dataclasses

from experiments.configs.face_vid2vid_talking256 import CONFIG as WHOLE
from experiments.configs.face_vid2vid_vox256 import MODEL

CONFIG = dataclasses.replace(
    WHOLE,
    name="face_vid2vid_talking256_direct",
    model=dataclasses.replace(MODEL, keypoints="direct"),
    losses=tuple(term for term in WHOLE.losses if "heads" not in term.READS),
)

"""face-vid2vid on TalkingHead-1KH at 512 × 512: the fine part of its training, with keypoint dropout for calls that
send as few keypoints as a frame needs.

    python -m experiments.train --config experiments/configs/face_vid2vid_talking512.py --data.path talking_512/train \\
        --held_out.path talking_512/test --init_from runs/face_vid2vid_talking256/model

Up to three quarters of each driving frame's keypoints, the last ones, are left out (appendix C.2);
`--model.keypoint_dropout 0` trains the model that needs all of them. Everything else is `face_vid2vid_vox512`.

Expected: 84.44 bytes a frame after arithmetic coding with twenty keypoints, 53.03 with as many as are needed (the
paper's table 6). Not run by us.
Time: as `face_vid2vid_vox512`, with fewer steps an epoch (`--identities 180000`).
"""

import dataclasses

from experiments.configs.face_vid2vid_vox512 import CONFIG as VOX
from experiments.configs.face_vid2vid_vox512 import MODEL
from experiments.experiment import HeldOutConfig

CONFIG = dataclasses.replace(
    VOX,
    name="face_vid2vid_talking512",
    model=dataclasses.replace(MODEL, keypoint_dropout=0.75),
    data=dataclasses.replace(VOX.data, path="talking_512/train"),
    held_out=HeldOutConfig(path="talking_512/test"),
    init_from="runs/face_vid2vid_talking256/model",
)

"""`face_vid2vid128` for frames of 256 × 256, whose details come from the source picture.

    python -m experiments.train --config experiments/configs/face_vid2vid256.py --data.path clips,stills,heads \\
        --held_out.path held_out --init_from runs/face_vid2vid128/model

The networks see the frames at half their size and paint at that; the source that is warped into the output has its
whole size (`generator.reduce`). The weights are those of `face_vid2vid128`, and a few hundred steps suffice for the
shares of both to become right.

Expected: the L1 on held-out people that `face_vid2vid128` ended with.
Time: 97 GFLOP a step of eight pairs, as `face_vid2vid128`.
"""

import dataclasses

from experiments.configs.face_vid2vid128 import CONFIG as AT_128
from experiments.configs.face_vid2vid128 import MODEL

CONFIG = dataclasses.replace(
    AT_128,
    name="face_vid2vid256",
    model=dataclasses.replace(MODEL, image_size=256, generator=dataclasses.replace(MODEL.generator, reduce=2)),
    optimiser=dataclasses.replace(AT_128.optimiser, learning_rate=2e-4, warmup_steps=20),
    data=dataclasses.replace(AT_128.data, size=256),
    loop=dataclasses.replace(AT_128.loop, steps=300),
)

"""`face_vid2vid128` for frames of 256 × 256, whose details come from the source picture.

    python -m experiments.train --config experiments/configs/face_vid2vid256.py --data.path clips,stills,heads \\
        --held_out.path held_out --init_from runs/face_vid2vid128/model

The networks see the frames at half their size and paint at that; the source that is warped into the output has its
whole size (`generator.reduce`). The weights are those of `face_vid2vid128`. `TurnedShare` makes the warped source the
whole of a turned face: no target shows large turns, and what is painted there is dark and blurred.

Expected: `losses.turned_share` falls from 0.1 to 0.001 within 80 steps, and the L1 on held-out people stays that of
`face_vid2vid128`.
Time: 141 GFLOP a step of eight pairs, 3.2 seconds on two cores of a server.
"""

import dataclasses

from avfr_jax.training.terms import TurnedShare
from experiments.configs.face_vid2vid128 import CONFIG as AT_128
from experiments.configs.face_vid2vid128 import MODEL

CONFIG = dataclasses.replace(
    AT_128,
    name="face_vid2vid256",
    model=dataclasses.replace(MODEL, image_size=256, generator=dataclasses.replace(MODEL.generator, reduce=2)),
    losses=(*(term for term in AT_128.losses if not isinstance(term, TurnedShare)), TurnedShare(1.0)),
    optimiser=dataclasses.replace(AT_128.optimiser, learning_rate=2e-4, warmup_steps=20),
    data=dataclasses.replace(AT_128.data, size=256),
    loop=dataclasses.replace(AT_128.loop, steps=300),
)

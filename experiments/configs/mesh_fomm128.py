"""`mesh-fomm` at 128 × 128: a start for `mesh_fomm256` at a quarter of its cost.

    python -m experiments.train --config experiments/configs/mesh_fomm128.py --data.path clips,stills,heads \\
        --held_out.path held_out

Motion is estimated at 64 × 64 whatever the frame's size, so that what is learned here carries over. The folders are
those of `mesh_fomm256`; frames of 256 × 256 are read at half their size.

Expected: on held-out people an L1 about 0.60 times that of copying the first frame, and 0.86 times `landmark-warp`'s,
after 2,800 steps on forty people (the shipped `mesh-fomm` started so; with so few it rises again thereafter).
Time: 7 pairs a second on two cores of a server.
"""

import dataclasses

from avfr_jax.models.mesh_fomm import MeshFommConfig
from experiments.configs.mesh_fomm256 import CONFIG as AT_256

CONFIG = dataclasses.replace(
    AT_256,
    name="mesh_fomm128",
    model=MeshFommConfig(image_size=128),
    optimiser=dataclasses.replace(AT_256.optimiser, learning_rate=4e-4),
    data=dataclasses.replace(AT_256.data, batch_size=8, size=128),
)

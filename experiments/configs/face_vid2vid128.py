"""face-vid2vid at 128 × 128, narrow enough to be trained on a processor, with the face mesh as its estimators.

    python -m experiments.train --config experiments/configs/face_vid2vid128.py --data.path clips,stills,heads \\
        --held_out.path held_out

The folders are those of `mesh_fomm256`; frames of 256 × 256 are read at half their size. With few clips detectors learn
slowly where a head is and how it is turned, and a generator driven by them learns nothing meanwhile: here canonical
keypoints, rotation, translation and expression are those of twenty points of the face mesh (`keypoints="mesh"`), and
the generator alone is trained. Its networks are the paper's with narrow layers, no spectral normalisation, and the
source itself warped into the output, so that little is left to be painted. Losses need no frozen network and no
discriminator. Keypoint dropout makes the first ten keypoints enough for a call. `face_vid2vid128_networks` trains the
estimators.

Clips have few large turns: `MeshFlow` pulls the flow at all landmarks towards their displacement, and `TurnedFlow` does
so for every source turned by up to 45 degrees. What these leave is the limit of 16 x 16 cells: on the face the source
is warped by the flow of the face's surface through the keypoints (`surface`). `face_vid2vid256` goes on from here.

Expected: on held-out people an L1 0.76 times that of copying the first frame after 2,000 steps. Without `MeshFlow`
heads asked to turn by 30 degrees turn by 17 after 550 steps; without `TurnedFlow` eyes and mouths smear at 30 degrees;
without `surface` heads asked to turn by 30 degrees turn by 20, however long it is trained.
Time: 96 GFLOP a step of eight pairs, 2.2 seconds on two cores of a server.
"""

import dataclasses

from avfr_jax.models.dense_motion_3d import VolumeMotionConfig
from avfr_jax.models.face_vid2vid import FaceVid2VidConfig
from avfr_jax.models.volume_generators import VolumeGeneratorConfig
from avfr_jax.training.terms import FaceParts, MeshFlow, PyramidL1, Structural, TurnedFlow, TurnedShare, WarpedL1
from experiments.configs.mesh_fomm128 import CONFIG as MESH

MODEL = FaceVid2VidConfig(
    image_size=128,
    spectral=False,
    keypoints="mesh",
    keypoint_dropout=0.5,
    turned=45.0,
    dense_motion=VolumeMotionConfig(
        block_expansion=16, num_blocks=3, max_features=128, compress=2, scale_factor=0.5, kernel=3, surface=64
    ),
    generator=VolumeGeneratorConfig(
        block_expansion=24,
        max_features=96,
        volume_channels=16,
        volume_depth=8,
        num_resblocks=3,
        source_skip=True,
    ),
)
CONFIG = dataclasses.replace(
    MESH,
    name="face_vid2vid128",
    family="face-vid2vid",
    model=MODEL,
    losses=(
        PyramidL1(10.0),
        Structural(1.0),
        FaceParts(2.0),
        WarpedL1(5.0),
        MeshFlow(20.0),
        TurnedFlow(20.0),
        TurnedShare(0.0),
    ),
    optimiser=dataclasses.replace(MESH.optimiser, learning_rate=5e-4, b1=0.9),
    data=dataclasses.replace(MESH.data, priors=False),
    loop=dataclasses.replace(MESH.loop, steps=2000, checkpoint_every=100, validate_every=250, panel_every=250),
)

"""`face_vid2vid128` with the paper's estimators, networks that find keypoints and pose in pixels.

    python -m experiments.train --config experiments/configs/face_vid2vid128_networks.py \\
        --data.path clips,stills,heads --held_out.path held_out

With few clips keypoints do not find the head's geometry by themselves: they are trained to lie on twenty points of the
face mesh in three dimensions, and rotation and translation to be the mesh's; `--losses.mesh_keypoints 0` and its
neighbours switch that off. Half of the pairs drive the generator with the mesh itself. The estimators alone, before,
cost a fifth of a step: with `--losses.pyramid_l1 0 --losses.structural 0 --losses.face_parts 0 --losses.warped_l1 0
--losses.mesh_flow 0 --losses.turned_flow 0` no loss reads what is generated, and the generator is not run; that run's
model is the `--init_from` of the whole.

Expected: after 750 steps of sixteen pairs of the estimators alone the mean error of a keypoint's coordinate is 0.049 of
half a frame, of the three angles together 12 degrees (from 0.28 and 19), and both still fall. The whole was not run to
its end.
Time: the estimators alone one step of sixteen pairs a second on two cores of a server.
"""

import dataclasses

from avfr_jax.models.canonical_keypoints import CanonicalDetectorConfig
from avfr_jax.models.head_pose import HeadPoseConfig
from avfr_jax.training.head_terms import Deformation, HeadPose, MeshCanonical, MeshKeypoints, MeshTranslation
from experiments.configs.face_vid2vid128 import CONFIG as MESH
from experiments.configs.face_vid2vid128 import MODEL

CONFIG = dataclasses.replace(
    MESH,
    name="face_vid2vid128_networks",
    model=dataclasses.replace(
        MODEL,
        dense_motion=dataclasses.replace(MODEL.dense_motion, surface=0),  # learned keypoints lie near the mesh's points
        keypoints="composed",
        mesh_driven=0.5,
        keypoint_detector=CanonicalDetectorConfig(block_expansion=16, num_blocks=3, max_features=128, depth=8),
        head_pose=HeadPoseConfig(block_expansion=24, max_features=384, stage_blocks=(1, 2, 2, 1), positions=True),
    ),
    losses=(
        *MESH.losses,
        HeadPose(0.2, target="mesh", frames="both"),
        MeshKeypoints(10.0),
        MeshCanonical(10.0),
        MeshTranslation(10.0),
        Deformation(0.1),
    ),
)

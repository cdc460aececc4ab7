"""Training of face-vid2vid (Wang et al. 2021, section 3.3 and appendix A).

The canonical keypoints come from the source alone; pose and expression are estimated in both frames, and in the driving
frame under a random warp for the equivariance loss, which compares the composed keypoints on the image plane.
"""

import dataclasses
from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from avfr_jax.faces.mesh_head import MeshHead, mesh_head, turned_landmarks
from avfr_jax.landmarks import HEAD_KEYPOINTS
from avfr_jax.models import face_vid2vid
from avfr_jax.motion import HeadMotion, Keypoints
from avfr_jax.ops.rotations import euler_to_matrix
from avfr_jax.ops.tps import RandomWarp, control_grid, warp_frames
from avfr_jax.training.composed import Mode
from avfr_jax.training.forward import Forward, Heads, TurnedSources
from avfr_jax.training.objective import Variables
from avfr_jax.training.objectives import animation
from avfr_jax.typing import Array


class _Detector:
    """Keypoints and heads of one pass, whose running statistics go from one frame to the next.

    Attributes:
      collections: `{network: collections}` so far, parameters included.
    """

    def __init__(self, config: face_vid2vid.FaceVid2VidConfig, variables: Variables, mode: Mode) -> None:
        self.config, self.mode = config, mode
        options = {"axis_name": mode.axis_name, "dtype": mode.dtype}
        self.modules: dict[str, Any] = {"keypoint_detector": face_vid2vid.keypoint_detector(config, **options)}
        if config.keypoints == "composed":
            self.modules["head_pose"] = face_vid2vid.head_pose(config, **options)
        self.collections = {name: variables[name] for name in self.modules}

    def _apply(self, name: str, frames: Any) -> Any:
        out, new = self.mode.apply(self.modules[name], self.collections[name], frames)
        self.collections[name] = {**self.collections[name], **new}
        return out

    def canonical(self, frames: Any) -> Keypoints:
        """Canonical keypoints; those of the frame itself where they are detected directly."""
        keypoints: Keypoints = self._apply("keypoint_detector", frames)[0]
        return keypoints

    def head(self, frames: Any, canonical: Keypoints) -> tuple[HeadMotion, Any]:
        """The head in a frame with a source's canonical keypoints, and its angles; the canonical keypoints are the
        frame's own where they are detected directly."""
        if self.config.keypoints == "direct":
            head = face_vid2vid.detected(canonical.value)
            return head, jnp.zeros((len(canonical.value), 3), jnp.float32)
        pose = self._apply("head_pose", frames)
        head = face_vid2vid.composed(self.config, canonical.value, pose)
        return head, pose.angles

    def statistics(self) -> Variables:
        """Updated running statistics."""
        return {
            network: {name: tree for name, tree in collections.items() if name != "params"}
            for network, collections in self.collections.items()
        }


def _keypoints(head: HeadMotion, canonical: Keypoints) -> Keypoints:
    """Composed keypoints as the loss terms read them, Jacobians turned with the head."""
    if canonical.jacobian is None:
        return Keypoints(head.positions)
    jacobian = jnp.einsum("nij,nkjl->nkil", head.rotation.astype(canonical.jacobian.dtype), canonical.jacobian)
    return Keypoints(head.positions, jacobian)


def _detected(detector: _Detector, frames: Mapping[str, Any]) -> tuple[dict[str, Any], ...]:
    """Heads, angles and keypoints of the source and of other frames by name, and the updated statistics."""
    canonical = {"source": detector.canonical(frames["source"])}
    for name in list(frames)[1:]:
        direct = detector.config.keypoints == "direct"
        canonical[name] = detector.canonical(frames[name]) if direct else canonical["source"]
    heads, angles = {}, {}
    for name, images in frames.items():
        heads[name], angles[name] = detector.head(images, canonical[name])
    keypoints = {name: _keypoints(head, canonical[name]) for name, head in heads.items()}
    return heads, angles, keypoints, detector.statistics()


def _pair(parts: Mapping[str, Any]) -> tuple[Any, Any]:
    return parts["source"], parts["driving"]


def _meshes(config: face_vid2vid.FaceVid2VidConfig, batch: Mapping[str, Any]) -> tuple[MeshHead, MeshHead] | None:
    """Heads of both frames' face meshes, solved together."""
    if "source_landmarks" not in batch:
        return None
    size = len(batch["source_landmarks"])
    both = jnp.concatenate([batch["source_landmarks"], batch["driving_landmarks"]])
    head = mesh_head(both, config.mesh_points)
    return jax.tree.map(lambda x: x[:size], head), jax.tree.map(lambda x: x[size:], head)


def forward(
    config: face_vid2vid.FaceVid2VidConfig, variables: Variables, batch: Mapping[str, Any], random: Any, mode: Mode
) -> Forward:
    """See `Task.forward`."""
    frames = {name: batch[name][..., : config.num_channels] for name in ("source", "driving")}
    meshes, statistics, warp = _meshes(config, batch), {}, None
    outputs: dict[str, Any] = {}
    if config.keypoints == "mesh":
        heads = _mesh_heads(config, meshes)
        keypoints = {name: Keypoints(head.positions) for name, head in heads.items()}
    else:
        if mode.transform:
            theta = random["theta"]
            warp = RandomWarp(theta, control_grid().astype(theta.dtype), random["bend"])
            frames["transformed"] = warp_frames(warp, frames["driving"])
        heads, angles, keypoints, statistics = _detected(_Detector(config, variables, mode), frames)
        outputs["heads"] = Heads(_pair(heads), _pair(angles), meshes)
    prediction = frames["source"]
    if mode.generate:
        module = face_vid2vid.generator(config, axis_name=mode.axis_name, dtype=mode.dtype)
        given = _pair(heads) if random is None else _for_generator(_pair(heads), meshes, random)
        turn = None if random is None or not mode.turn else random["turned"]
        named = {} if turn is None else {"turned_head": _turned(given, turn), "paint_turned": mode.turn == "picture"}
        generated, new = mode.apply(module, variables["generator"], frames["source"], *given, remat=mode.remat, **named)
        prediction, statistics = generated.prediction, statistics | {"generator": new}
        outputs |= {"motion": generated.motion, "warped": generated.skip}
        if turn is not None:
            landmarks = turned_landmarks(batch["source_landmarks"], turn)
            outputs["turned"] = TurnedSources(landmarks, generated.turned, generated.turned_share)
    return Forward(
        prediction,
        frames["driving"],
        statistics,
        batch,
        source=keypoints["source"],
        driving=keypoints["driving"],
        transformed=keypoints.get("transformed"),
        warp=warp,
        outputs=outputs,
    )


def _for_generator(
    heads: tuple[HeadMotion, HeadMotion],
    meshes: tuple[MeshHead, MeshHead] | None,
    random: Mapping[str, Any],
) -> tuple[HeadMotion, HeadMotion]:
    """Heads of source and driving frames that the generator is trained with."""
    source, driving = heads
    if meshes is not None and "mesh_driven" in random:
        known = [jnp.isfinite(mesh.positions).all((1, 2)) for mesh in meshes]
        chosen = random["mesh_driven"] & known[0] & known[1]
        source, driving = (
            jax.tree.map(partial(_where, chosen), other, own)
            for other, own in zip(_mesh_motion(meshes), heads, strict=True)
        )
    if "kept" in random:
        driving = face_vid2vid.drop_keypoints(driving, random["kept"])
    return source, driving


def _turned(heads: tuple[HeadMotion, HeadMotion], rotation: Array) -> HeadMotion:
    """The sources' own heads turned, with as many keypoints as the driving ones."""
    source, driving = heads
    turned = dataclasses.replace(source, rotation=rotation @ source.rotation)
    return turned if driving.count is None else face_vid2vid.drop_keypoints(turned, driving.count)


def _where(chosen: Array, other: Array, own: Array) -> Array:
    return jnp.where(chosen.reshape(-1, *(1,) * (own.ndim - 1)), other, own)


def _mesh_motion(meshes: tuple[MeshHead, MeshHead]) -> tuple[HeadMotion, HeadMotion]:
    """Face meshes as heads with the source's canonical keypoints."""
    source, driving = (mesh.motion() for mesh in meshes)
    return source, dataclasses.replace(driving, canonical=source.canonical)


def _mesh_heads(config: face_vid2vid.FaceVid2VidConfig, meshes: tuple[MeshHead, MeshHead] | None) -> dict[str, Any]:
    """Heads of source and driving frames with `keypoints="mesh"`; one in the middle of a frame without a face."""
    assert meshes is not None
    nothing = face_vid2vid.detected(jnp.zeros((1, config.num_keypoints, 3), jnp.float32))

    def known(head: HeadMotion) -> HeadMotion:
        seen = jnp.isfinite(head.positions).all((1, 2))
        return jax.tree.map(lambda x, none: _where(seen, x, jnp.broadcast_to(none, x.shape)), head, nothing)

    return dict(zip(("source", "driving"), map(known, _mesh_motion(meshes)), strict=True))


def sample(config: face_vid2vid.FaceVid2VidConfig, key: Array, size: int) -> dict[str, Any]:
    """Random warps; with keypoint dropout, the keypoints that each driving frame keeps; with `turned`, the rotation of
    each source; with `mesh_driven`, the pairs whose generator is driven by meshes."""
    warps, dropout, mesh = jax.random.split(key, 3)
    drawn = animation.sample_warps(config, warps, size)
    if config.keypoint_dropout:
        drawn["kept"] = jax.random.randint(dropout, (size,), config.min_keypoints, config.num_keypoints + 1)
    if config.turned:
        angles = config.turned * jax.random.uniform(jax.random.fold_in(mesh, 1), (3, size), minval=-1.0)
        drawn["turned"] = euler_to_matrix(*(angles * jnp.asarray([[1.0], [0.5], [0.5]])))
    if config.mesh_driven:
        drawn["mesh_driven"] = jax.random.bernoulli(mesh, config.mesh_driven, (size,))
    return drawn


def networks(config: face_vid2vid.FaceVid2VidConfig) -> tuple[str, ...]:
    """See `Task.networks`."""
    if config.keypoints == "mesh":
        return ("generator",)
    if config.keypoints == "direct":
        return animation.NETWORKS
    return ("keypoint_detector", "head_pose", "generator")


def provides(config: face_vid2vid.FaceVid2VidConfig) -> tuple[str, ...]:
    """See `Task.provides`."""
    composed = config.keypoints == "composed"
    return (
        *(("keypoints",) if config.keypoints == "mesh" else animation.provides(config)),
        *(("heads",) if composed else ()),
        *(("mesh_points",) if composed and config.num_keypoints <= len(HEAD_KEYPOINTS) else ()),
        "motion",
        *(("turned",) if config.turned else ()),
        *(("turned_share",) if config.turned and config.generator.source_skip else ()),
        *(("warped",) if config.generator.source_skip else ()),
    )


TASK = animation.animation_task(
    forward,
    init=face_vid2vid.init,
    discriminator=face_vid2vid.discriminator,
    example_batch=lambda config, size, landmarks: animation.example_batch(
        config, config.num_channels, size, landmarks or config.keypoints == "mesh"
    ),
    sample=sample,
    networks=networks,
    provides=provides,
)

"""Shared training code of keypoint-based animators: detection, generation, evaluation and panels."""

from collections.abc import Callable
from typing import Any, cast

import jax
import jax.numpy as jnp

from avfr_jax.landmarks import NUM_LANDMARKS
from avfr_jax.metrics import image
from avfr_jax.motion import Keypoints
from avfr_jax.ops.tps import RandomWarp, control_grid, sample_warp, warp_frames
from avfr_jax.training import panels
from avfr_jax.training.composed import Mode, Task
from avfr_jax.training.forward import Forward
from avfr_jax.training.objective import Variables
from avfr_jax.typing import Array

NETWORKS = ("keypoint_detector", "generator")


def sample_warps(config: Any, key: Array, size: int) -> dict[str, Any]:
    """One random warp a sample."""
    warp = sample_warp(key, size)
    return {"theta": warp.theta, "bend": warp.control_params}


def provides(config: Any) -> tuple[str, ...]:
    """Parts of `Forward` that FOMM's loss terms read."""
    return ("keypoints", "transformed", *(("jacobians",) if config.estimate_jacobian else ()))


def example_batch(config: Any, channels: int, size: int, landmarks: bool) -> dict[str, Any]:
    """Shapes of a batch of pairs."""
    frames = jax.ShapeDtypeStruct((size, config.image_size, config.image_size, channels), jnp.float32)
    batch = {"source": frames, "driving": frames}
    if landmarks:
        face = jax.ShapeDtypeStruct((size, NUM_LANDMARKS, 3), jnp.float32)
        batch |= {"source_landmarks": face, "driving_landmarks": face}
    return batch


def animate(
    detector: Any,
    generate: Callable[[Keypoints, Keypoints], tuple[Any, Any]],
    state: dict[str, Any],
    inputs: tuple[Any, Any],
    random: Any,
    mode: Mode,
) -> tuple[Forward, Any]:
    """Detect, generate and, for the equivariance terms, detect under a random warp.

    Args:
      detector: the keypoint detector.
      generate: (source keypoints, driving keypoints) -> the generator's output and its updated collections.
      state: the detector's variables; its statistics pass over source, driving and warped frames in this order.
      inputs: the detector's input for source and driving frames.
      random: from `sample_warps`.
      mode: of the pass.

    Returns:
      `Forward` without target, batch and further outputs; the generator's output.
    """

    def detect(frames: Any) -> Keypoints:
        nonlocal state
        (keypoints, _), new = mode.apply(detector, state, frames)
        state = {**state, **new}
        return cast("Keypoints", keypoints)

    source, driving = (detect(frames) for frames in inputs)
    generated, new = generate(source, driving)
    transformed, warp = None, None
    if mode.transform:
        theta = random["theta"]
        warp = RandomWarp(theta, control_grid().astype(theta.dtype), random["bend"])
        transformed = detect(warp_frames(warp, inputs[1]))
    statistics = {name: tree for name, tree in state.items() if name != "params"}
    forward = Forward(
        generated.prediction,
        None,
        {"keypoint_detector": statistics, "generator": new},
        source=source,
        driving=driving,
        transformed=transformed,
        warp=warp,
        condition=(Keypoints(driving.value),),
    )
    return forward, generated


def compare(forward: Forward) -> dict[str, Any]:
    """L1, PSNR and SSIM of each prediction; L1 of copying the source, a measure of the pair's difficulty, and of the
    layered warp where the model has one."""
    prediction, target = forward.prediction, forward.target
    layered = forward.outputs.get("layered")
    return {
        **({} if layered is None else {"l1_layered": image.l1(layered, target)}),
        "l1": image.l1(prediction, target),
        "l1_copy": image.l1(forward.batch["source"][..., : target.shape[-1]], target),
        "psnr": image.psnr(prediction, target),
        "ssim": image.ssim(prediction, target),
    }


def show(forward: Forward) -> dict[str, Any]:
    """Source and driving frames with their keypoints, prediction, flow, occlusion and audio-visual attention."""
    motion, shape = forward.outputs["motion"], forward.target.shape[1:3]
    maps = {"occlusion": motion.occlusion_map, "attention": forward.outputs.get("attention")}
    return {
        "source": panels.render_keypoints(forward.batch["source"][..., :3], forward.source.value[..., :2]),
        "driving": panels.render_keypoints(forward.target, forward.driving.value[..., :2]),
        "output": forward.prediction,
        "flow": panels.render_displacement(motion.displacement, shape),
        **{name: panels.render_occlusion(x, shape) for name, x in maps.items() if x is not None},
    }


def animation_task(forward: Callable[..., Forward], **parts: Any) -> Task:
    """A `Task` of FOMM's kind, whose evaluation and panels read the forward pass alone."""

    def evaluate(config: Any, variables: Variables, batch: Any, mode: Mode) -> tuple[dict[str, Any], Any]:
        result = forward(config, variables, batch, None, mode)
        return compare(result), result.prediction

    def panels(config: Any, variables: Variables, batch: Any, mode: Mode) -> dict[str, Any]:
        return show(forward(config, variables, batch, None, mode))

    common: dict[str, Any] = {
        "evaluate": evaluate,
        "panels": panels,
        "sample": sample_warps,
        "networks": lambda config: NETWORKS,
        "provides": provides,
    }
    return Task(forward=forward, **(common | parts))

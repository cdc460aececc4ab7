"""The video-call codec on the bundled clip: motion coding alone, the whole sender, the receiver, the first frame.

    python -m benchmarks.codec
    python -m benchmarks.codec --models landmark-warp mesh-fomm avfr128

*Motion coding* is one frame's mesh projected on the components, predicted, quantised, entropy-coded and put into a
packet with its checksum, and all the way back. The *sender* reads the video, tracks the face and writes packets; the
*receiver* renders from them.Networks that are not found by name have random weights, which do not change the time.
Medians over the rounds; beside them processor time, all threads together.
"""

import argparse
import pathlib
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

import avfr_jax
from avfr_jax.codec.bitstream import Packet, read_packet
from avfr_jax.codec.motion import MotionReader
from avfr_jax.codec.motion_space import space_of
from avfr_jax.codec.packetisation import MotionPacketiser
from avfr_jax.codec.receiver import Receiver
from avfr_jax.codec.sender import Sender, send_all
from avfr_jax.codec.settings import FOR_CALLS
from avfr_jax.codec.upscaling import choose_super_resolver, resize_frames
from avfr_jax.models import interpolation, super_resolution
from avfr_jax.nn.allocator import keep_freed_memory
from avfr_jax.tracking import track
from benchmarks.fomm_inference import processor, random_weights
from experiments.configs import interpolation128, super_resolution64

CLIP = pathlib.Path(avfr_jax.__file__).with_name("assets") / "driver.mp4"


class Time(NamedTuple):
    """Seconds of wall time and of processor time."""

    wall: float
    processor: float

    def over(self, count: int) -> "Time":
        return Time(self.wall / count, self.processor / count)


Row = tuple[str, Time]


def seconds(work: Callable[[], Any], rounds: int) -> Time:
    """Medians over rounds."""
    taken = []
    for _ in range(rounds):
        start = time.perf_counter(), time.process_time()
        work()
        taken.append((time.perf_counter() - start[0], time.process_time() - start[1]))
    return Time(*np.median(taken, axis=0).tolist())


def tracked(model: Any) -> Iterable[Any]:
    """The tracked frames of the clip."""
    return track(CLIP, model.image_size, capabilities=model.capabilities, crop="none")


def motion_rows(frames: Sequence[Any], rounds: int) -> list[Row]:
    """Seconds a frame of encoding and of decoding the motion of `landmark-warp`, as a call sends it."""
    space = space_of(avfr_jax.load_model("landmark-warp").motion_spec, FOR_CALLS.components)
    form = space.format(space.headers(FOR_CALLS.step, FOR_CALLS.keypoint_step), FOR_CALLS.slope, False)
    poses = [{"mesh": frame.landmarks} for frame in frames if frame.landmarks is not None]
    sent: list[bytes] = []

    def encode() -> None:
        sent.clear()
        packetiser = MotionPacketiser(form, FOR_CALLS, FOR_CALLS.refresh)
        for i, pose in enumerate(poses):
            packets = packetiser.refresh_if_due(i, 0) + packetiser.push(i, space.vector(pose, poses[0]), 0)
            sent.extend(packet.to_bytes() for packet in packets)

    def decode() -> None:
        motion = MotionReader(form)
        for data in sent:
            packet, _ = read_packet(data)
            if packet.refresh:
                motion.refresh()
            reader = form.coder.reader(packet.payload)
            for _ in range(packet.count):
                space.pose_at(poses[0], motion.get(reader))

    encode()
    count = len(poses)
    return [
        ("motion coding: encoder", seconds(encode, rounds).over(count)),
        ("motion coding: decoder", seconds(decode, rounds).over(count)),
    ]


def send(model: Any) -> list[Packet]:
    """The packets of the clip, from the file on, tracking included."""
    frames = ((one.image, one.landmarks, one.person_mask) for one in tracked(model))
    return list(send_all(Sender(model, FOR_CALLS), frames))


def received(model: Any, packets: Iterable[Packet]) -> Receiver:
    """A receiver with all packets that has rendered nothing."""
    end = Receiver(model)
    for packet in packets:
        end.push(packet)
    return end


def model_rows(model: Any, rounds: int) -> list[Row]:
    """Seconds a frame of a model's sender and receiver; first frames in seconds."""
    packets = send(model)  # compiles
    count = received(model, packets).known

    def first() -> None:
        next(received(model, packets).render(1))

    cold, warm = seconds(first, 1), seconds(first, rounds)
    name = f"{model.name}, {model.image_size}²"
    return [
        (f"{name}: sender, tracking included", seconds(lambda: send(model), rounds).over(count)),
        (f"{name}: receiver", seconds(lambda: list(received(model, packets).render(count)), rounds).over(count)),
        (f"{name}: first frame, from the packets, programs to be compiled", cold),
        (f"{name}: first frame, compiled", warm),
    ]


def network_rows(frames: np.ndarray, rounds: int) -> list[Row]:
    """Seconds a frame of the networks that a receiver applies to rendered frames of 256 × 256."""

    def untrained(config: Any, module: Any, kind: Any) -> Any:
        return kind(config.model, random_weights(config.model, module.init), f"{config.name}, random weights")

    super_resolver = choose_super_resolver(None) or untrained(
        super_resolution64.CONFIG, super_resolution, super_resolution.SuperResolver
    )
    between = untrained(interpolation128.CONFIG, interpolation, interpolation.Interpolator)
    works: list[tuple[str, Callable[[], Any], int]] = [
        (f"256² to 512²: {what}", lambda network=network: list(resize_frames(frames, 512, 512, network)), len(frames))
        for what, network in (("bicubic", None), (f"network ({super_resolver.name})", super_resolver))
    ]
    for count in (1, 3):
        what = f"a frame interpolated by the network, {count} at once"
        works.append((what, lambda count=count: between(frames[0], frames[4], count), count))
    rows = []
    for what, work, count in works:
        work()  # compiles
        rows.append((what, seconds(work, rounds).over(count)))
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="the video-call codec: motion coding, sender, receiver, first frame")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--models", nargs="+", default=["landmark-warp", "mesh-fomm"])
    options = parser.parse_args(arguments)
    keep_freed_memory()
    rows: list[Row] = []
    for name in options.models:
        rows += model_rows(avfr_jax.load_model(name), options.rounds)
    frames = list(tracked(avfr_jax.load_model("landmark-warp")))
    images = np.stack([frame.image for frame in frames[:8]])
    rows = motion_rows(frames, options.rounds) + rows + network_rows(images, options.rounds)
    print(f"The codec, {processor()}; JAX {jax.__version__}; medians of {options.rounds} rounds.\n")
    print("| | ms | a second | ms of a processor |\n| --- | ---: | ---: | ---: |")
    for what, (wall, processors) in rows:
        print(f"| {what} | {1e3 * wall:.3g} | {1 / wall:.3g} | {1e3 * processors:.3g} |")


if __name__ == "__main__":
    main()

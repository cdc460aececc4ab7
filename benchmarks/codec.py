"""The video-call codec on the bundled clip: the stream alone, the whole sender, the receiver, the first frame.

    python -m benchmarks.codec
    python -m benchmarks.codec --models landmark-warp mesh-fomm avfr128

The *stream* is the motion of one frame: projected on the components, predicted, quantised, range-coded, put into a
packet with its checksum, and all the way back to the mesh a model is given. The *sender* reads the video, finds the
face and writes packets; the *receiver* draws from them. Networks that are not found by name have random weights, which
do not change the time. Medians over the rounds; beside them the time of processors, all threads together, since that
is the same on a machine that has other work.
"""

import argparse
import pathlib
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

import avfr_jax
from avfr_jax.codec import files
from avfr_jax.codec.bitstream import Kind, Packet, read_packet
from avfr_jax.codec.motion import MotionReader, MotionWriter
from avfr_jax.codec.range_coder import Reader, Writer
from avfr_jax.codec.receiver import Receiver
from avfr_jax.codec.sender import Sender, SenderSettings, motion_format, send_all
from avfr_jax.codec.spaces import Pose, space_of
from avfr_jax.landmarks import landmarks_to_pixels
from avfr_jax.models.interpolation import Interpolator
from avfr_jax.models.super_resolution import SuperResolver
from avfr_jax.nn.allocator import keep_freed_memory
from avfr_jax.reenact import Reenactor
from benchmarks.fomm_inference import processor, random_weights
from experiments.configs import interpolation128, super_resolution64

CLIP = pathlib.Path(avfr_jax.__file__).with_name("assets") / "driver.mp4"
CALL = SenderSettings()


class Time(NamedTuple):
    """Seconds on the clock, and seconds of processors."""

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


def stream_rows(seen: Sequence[Any], rounds: int) -> list[Row]:
    """Seconds a frame of writing and of reading the motion of `landmark-warp`, as a call sends it."""
    space = space_of(avfr_jax.load_model("landmark-warp"), CALL.components)
    form = motion_format(space, CALL)
    poses = [Pose(landmarks_to_pixels(one.landmarks, 256)) for one in seen if one.landmarks is not None]
    sent: list[bytes] = []

    def write() -> None:
        sent.clear()
        motion, writer = MotionWriter(form, CALL.dead_zone), Writer()
        for i, pose in enumerate(poses, 1):
            refresh = (i - CALL.packet) % CALL.refresh == 0
            motion.put(writer, space.vector(pose, poses[0]))
            if i % CALL.packet == 0:
                sent.append(Packet(Kind.MOTION, i, writer.finish(), CALL.packet, refresh).to_bytes())
                writer = Writer()
                if i % CALL.refresh == 0:
                    motion.refresh()

    def read() -> None:
        motion = MotionReader(form)
        for number, data in enumerate(sent):
            packet, _ = read_packet(data)
            reader = Reader(packet.payload)
            vectors = np.stack([motion.get(reader) for _ in range(packet.count)])
            space.pose_at(poses[0], vectors[-1])
            if (number + 1) * CALL.packet % CALL.refresh == 0:
                motion.refresh()

    write()
    coded = len(sent) * CALL.packet
    return [
        ("stream: writing", seconds(write, rounds).over(coded)),
        ("stream: reading", seconds(read, rounds).over(coded)),
    ]


def send(model: Any) -> list[Packet]:
    """The packets of the clip, from the file on, its face being looked for."""
    watched = Reenactor(model, crop="none").watch(CLIP)
    return list(send_all(Sender(model, CALL), ((one.view, one.landmarks, one.mask) for one in watched)))


def received(model: Any, packets: Iterable[Packet]) -> Receiver:
    """A receiver that has everything and has drawn nothing."""
    end = Receiver(lambda name: model)
    for packet in packets:
        end.push(packet)
    return end


def model_rows(model: Any, rounds: int) -> list[Row]:
    """Seconds a frame of a model's sender and receiver; first frames in seconds."""
    packets = send(model)  # compiles what there is to compile
    end = received(model, packets)
    count = end.known

    def first() -> None:
        next(received(model, packets).draw(1))

    cold, warm = seconds(first, 1), seconds(first, rounds)
    name = f"{model.name}, {model.image_size}²"
    return [
        (f"{name}: sender, tracking included", seconds(lambda: send(model), rounds).over(count)),
        (f"{name}: receiver", seconds(lambda: _drain(received(model, packets), count), rounds).over(count)),
        (f"{name}: first frame, from the packets, programs to be compiled", cold),
        (f"{name}: first frame, compiled", warm),
    ]


def _drain(end: Receiver, count: int) -> np.ndarray:
    return np.stack(list(end.draw(count)))


def helper_rows(seen: Sequence[Any], rounds: int) -> list[Row]:
    """Seconds a frame of what a receiver can do to drawn frames of 256 × 256."""
    frames = np.stack([one.view for one in seen[:8]])
    super_resolver = files.choose_super_resolver(None) or _untrained(super_resolution64.CONFIG, SuperResolver)
    between = _untrained(interpolation128.CONFIG, Interpolator)
    rows = []
    for what, network in (("bicubic", None), (f"network ({super_resolver.name})", super_resolver)):
        sized = lambda network=network: list(files.sized(frames, 512, 512, network))  # noqa: E731
        sized()
        rows.append((f"256² to 512²: {what}", seconds(sized, rounds).over(len(frames))))
    for count in (1, 3):
        made = lambda count=count: between(frames[0], frames[4], count)  # noqa: E731
        made()
        rows.append((f"a picture between two by the network, {count} at once", seconds(made, rounds).over(count)))
    return rows


def _untrained(config: Any, kind: Any) -> Any:
    from avfr_jax.models import interpolation, super_resolution

    module = interpolation if kind is Interpolator else super_resolution
    return kind(config.model, random_weights(config.model, module.init), f"{config.name}, random weights")


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="the video-call codec: stream, sender, receiver, first frame")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--models", nargs="+", default=["landmark-warp", "mesh-fomm"])
    options = parser.parse_args(arguments)
    keep_freed_memory()
    models = [avfr_jax.load_model(name) for name in options.models]
    rows: list[Row] = []
    for model in models:
        rows += model_rows(model, options.rounds)
    seen = list(Reenactor("landmark-warp", crop="none").watch(CLIP))
    rows = stream_rows(seen, options.rounds) + rows + helper_rows(seen, options.rounds)
    print(f"The codec, {processor()}; JAX {jax.__version__}; medians of {options.rounds} rounds.\n")
    print("| | ms | a second | ms of a processor |\n| --- | ---: | ---: | ---: |")
    for what, (wall, processors) in rows:
        print(f"| {what} | {1e3 * wall:.3g} | {1 / wall:.3g} | {1e3 * processors:.3g} |")


if __name__ == "__main__":
    main()

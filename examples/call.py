"""Send a face as a few bytes a frame: sender, packets, receiver.

    python examples/call.py

A third of the motion packets is dropped on the way; the receiver interpolates over the gaps.
"""

import contextlib
import importlib.resources
import itertools

import numpy as np

import avfr_jax
from avfr_jax.codec import Receiver, Sender
from avfr_jax.codec.bitstream import Kind
from avfr_jax.tracking import track

FRAMES = 30


def main() -> tuple[np.ndarray, np.ndarray]:
    """Send the first frames of the bundled clip; gives them and the received ones, uint8 `[N, 256, 256, 3]`."""
    model = avfr_jax.load_model("landmark-warp")
    sender, receiver = Sender(model), Receiver(model)
    sent, size, motion_packets = [], 0, 0
    clip = importlib.resources.files("avfr_jax") / "assets" / "driver.mp4"
    with importlib.resources.as_file(clip) as path:
        tracked = track(path, model.image_size, capabilities=model.capabilities)
        with contextlib.closing(tracked):
            frames = list(itertools.islice(tracked, FRAMES))

    packets = [sender.header()]
    for frame in frames:
        sent.append(frame.image)
        packets += sender.push(frame.image, frame.landmarks, frame.person_mask)
    for packet in packets + sender.finish():
        data = packet.to_bytes()
        size += len(data)
        motion_packets += packet.kind == Kind.MOTION
        if packet.kind != Kind.MOTION or motion_packets % 3:
            receiver.push_bytes(data)

    received = np.stack(list(receiver.render(receiver.known)))
    print(f"{size} bytes for {len(sent)} frames; {len(received)} frames rendered")
    return np.stack(sent), received


if __name__ == "__main__":
    main()

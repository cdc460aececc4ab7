"""Streams for `benchmarks.fuzz_stream`: stand-in models, base streams, and their mutations."""

import binascii
import dataclasses
import functools
import io
import pathlib
import struct
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import avfr_jax
from avfr_jax.codec import mesh_basis
from avfr_jax.codec.bitstream import MAGIC, REFERENCES, Kind, Packet, ReferenceCoding, put_number
from avfr_jax.codec.container import Index, write_stream
from avfr_jax.codec.header import Header
from avfr_jax.codec.intra_coding import encode_image
from avfr_jax.codec.receiver import Receiver
from avfr_jax.codec.sender import Sender
from avfr_jax.codec.settings import FAITHFUL, SenderSettings
from avfr_jax.landmarks import normalise_landmarks
from avfr_jax.models.base import Capabilities, EncodedSource
from avfr_jax.models.residual import ResidualConfig
from avfr_jax.motion import FaceMeshSpec, HeadMotion, HeadSpec, Keypoints, KeypointSpec, MotionSpec

CLIP = pathlib.Path(avfr_jax.__file__).with_name("assets") / "driver.mp4"
SIZE = 64
_FRAMES = 24
SPECS: dict[str, MotionSpec] = {"mesh": FaceMeshSpec(), "keypoints": KeypointSpec(2, False), "head": HeadSpec(2, 1)}


class StandIn:
    """A model that returns its source.

    Args:
      motion: the kind of its motion, of `SPECS`.
    """

    name, fingerprint, image_size, batch_size = "stand-in", b"stand-in", SIZE, 4

    def __init__(self, motion: str) -> None:
        self.motion_spec = SPECS[motion]
        self.capabilities = Capabilities(landmarks=motion == "mesh")

    def keypoints(self, frames: Any, priors: Any = None) -> Any:
        """Two keypoints, or a head, moved by the brightness."""
        level = np.asarray(frames).mean((1, 2, 3))
        value = np.stack([np.stack([level, -level], -1), np.stack([level / 2, level / 3], -1)], 1)
        if isinstance(self.motion_spec, KeypointSpec):
            return Keypoints(value)
        points = np.concatenate([value, value[..., :1]], -1)
        return HeadMotion(points, np.tile(np.eye(3), (len(level), 1, 1)), points[:, 0], points / 9)

    def encode_source(self, source: Any, keypoints: Any, priors: Any = None) -> EncodedSource:
        """The source."""
        return EncodedSource(np.asarray(source), ())

    def animate(self, source: Any, source_keypoints: Any, driving: Any, mel: Any = None) -> Any:
        """The source, once for each frame."""
        return np.broadcast_to(source.image, (len(driving), SIZE, SIZE, 3))


class StandInResidualCodec:
    """A residual codec that changes the brightness of each cell by halving steps."""

    name, fingerprint = "stand-in-residuals", b"residual"
    config = ResidualConfig(image_size=SIZE, fold=2, halvings=2, bits=6)

    def encode(self, true: Any, rendered: Any) -> Any:
        """Signs `[1, a, a, 6]`."""
        side, cell = self.config.side, self.config.cell
        left = (true.astype(np.float32) - rendered).reshape(1, side, cell, side, cell, 3).mean((2, 4, 5))
        signs = []
        for bit in range(6):
            signs.append(np.where(left < 0, -1, 1))
            left = left - signs[-1] * 64 / 2**bit
        return np.stack(signs, -1).astype(np.int8)

    def decode(self, signs: Any, rendered: Any) -> Any:
        """The rendered frame, cell by cell at another level."""
        level = sum(signs[..., bit] * 64 / 2**bit for bit in range(6))
        whole = level.repeat(self.config.cell, 1).repeat(self.config.cell, 2)[..., None]
        return np.clip(rendered + whole, 0, 255).astype(np.uint8)


@dataclasses.dataclass(frozen=True, eq=False)
class Base:
    """A valid stream: packets, header first, and the kind of its motion."""

    packets: list[Packet]
    motion: str

    @functools.cached_property
    def data(self) -> bytes:
        """The file."""
        file = io.BytesIO()
        write_stream(file, self.packets)
        return file.getvalue()

    def receiver(self, model: Any = None) -> Receiver:
        """A receiver with the stand-ins, or another model."""
        model = model or StandIn(self.motion)
        codec: Any = StandInResidualCodec()
        return Receiver(model, codec)


def bases() -> list[Base]:
    """Short streams with sound of each kind of motion and each coding of reference frames; inter- and residual-coded
    ones, the last two, with meshes alone."""
    short = SenderSettings(components=8, refresh=8)
    intra = [dataclasses.replace(short, reference_coding=c) for c in ReferenceCoding if not c.predicted]
    pivots = dataclasses.replace(FAITHFUL, check_interval=2, min_interval=0.1)
    residual = dataclasses.replace(short, quality=0, pivots=pivots)
    inter = dataclasses.replace(residual, quality=short.quality, inter_coding=True)
    made = []
    counted = dataclasses.replace(intra[1], keypoint_threshold=5.0)
    settings = [("keypoints", one) for one in intra] + [("head", counted)]
    for motion, one in [*settings, *(("mesh", one) for one in [*intra, inter, residual])]:
        model: Any = StandIn(motion)
        codec: Any = StandInResidualCodec() if one is residual else None
        sender = Sender(model, one, sound=1, residual_codec=codec)
        packets: list[Packet] = []
        for i, t in enumerate(np.arange(_FRAMES) / 4):
            frame = np.full((SIZE, SIZE, 3), 120 + 60 * np.sin(t), np.uint8)
            frame[8:40, 8:40] //= 2
            points = mesh_basis.shipped().mean + np.float32(8 * np.sin(t))
            packets += sender.push(frame, normalise_landmarks(points, 256, 256) if motion == "mesh" else None)
            if i % 12 == 0:
                packets.append(Packet(Kind.SOUND, i, put_number(24 * i // 12) + b"\x04\xf8\xff\xfe\x00" * 24, 24))
        made.append(Base(packets + sender.finish(), motion))
    return made


# --- mutations: a base and a generator -> bytes ----------------------------------------------------------------------

Mutation = Callable[[Base, np.random.Generator], bytes]


def raw(kind: int, payload: bytes, frame: int = 0, count: int = 1, pivot: int | None = None) -> bytes:
    """A packet with a valid checksum and any fields."""
    head = bytes([kind]) + put_number(frame) + put_number(count) + (b"" if pivot is None else bytes([pivot]))
    body = head + put_number(len(payload)) + payload
    return body + struct.pack("<H", binascii.crc_hqx(body, 0xFFFF))


def _number(rng: np.random.Generator) -> int:
    """From small to absurd."""
    return int(rng.integers(0, 1 << int(rng.integers(1, 29))))


def _as_file(packets: Sequence[bytes]) -> bytes:
    return MAGIC + b"".join(packets)


def truncated(base: Base, rng: np.random.Generator) -> bytes:
    """Cut anywhere."""
    return base.data[: int(rng.integers(0, len(base.data)))]


def flipped(base: Base, rng: np.random.Generator) -> bytes:
    """Inverted bits."""
    data = bytearray(base.data)
    for at in rng.integers(0, len(data), int(rng.integers(1, 20))):
        data[at] ^= 1 << int(rng.integers(0, 8))
    return bytes(data)


def spliced(base: Base, rng: np.random.Generator) -> bytes:
    """Bytes moved, removed, repeated or replaced."""
    data = base.data
    for _ in range(int(rng.integers(1, 4))):
        a, b, c = sorted(int(x) for x in rng.integers(0, len(data) + 1, 3))
        data = (
            data[:a] + data[b:c] + data[a:b] + data[c:],
            data[:a] + data[b:],
            data[:b] + data[a:b] + data[b:],
            data[:a] + rng.bytes(b - a) + data[b:],
            data[:a] + rng.bytes(int(rng.integers(0, 200))) + data[a:],
        )[int(rng.integers(0, 5))]
    return data


def shuffled(base: Base, rng: np.random.Generator) -> bytes:
    """Packets lost, repeated or reordered."""
    packets = [packet.to_bytes() for packet in base.packets]
    chosen = [packets[int(i)] for i in rng.integers(0, len(packets), int(rng.integers(1, 2 * len(packets))))]
    if rng.random() < 0.3:
        chosen = [p for p in packets for _ in range(int(rng.integers(0, 3)))]
    return _as_file([packets[0], *chosen] if rng.random() < 0.9 else chosen)


def tampered(base: Base, rng: np.random.Generator) -> bytes:
    """Valid checksums over changed fields and payloads."""
    out = []
    for packet in base.packets:
        kind, frame, count, payload = (
            int(packet.kind) | 0x80 * packet.refresh,
            packet.frame,
            packet.count,
            packet.payload,
        )
        pivot: int | None = packet.pivot if packet.refresh or packet.kind in REFERENCES else None
        if rng.random() < 0.03:
            frame = _number(rng) % (1 << 14)
        if rng.random() < 0.1:
            count = _number(rng)
        if rng.random() < 0.1 and pivot is not None:
            pivot = int(rng.integers(0, 256))
        if rng.random() < 0.05:
            kind = int(rng.integers(0, 256))
        if payload and rng.random() < 0.3:
            changed = bytearray(payload)
            for at in rng.integers(0, len(payload), int(rng.integers(1, 6))):
                changed[at] = int(rng.integers(0, 256))
            payload = bytes(changed[: len(payload) if rng.random() < 0.8 else int(rng.integers(0, len(payload)))])
        out.append(raw(kind, payload, frame, count, pivot))
    return _as_file(out)


def reheaded(base: Base, rng: np.random.Generator) -> bytes:
    """Headers of absurd values."""
    header = Header.from_packet(base.packets[0])
    odd: dict[str, Any] = {
        "width": _number(rng), "height": _number(rng), "rate": (_number(rng), _number(rng)),
        "size": _number(rng), "slope": _number(rng), "refresh": _number(rng), "sound": _number(rng),
        "model": ["", "../x", "mesh-fomm", "a" * 255, "\0", "no-such", "/"][int(rng.integers(0, 7))],
        "fingerprint": rng.bytes(8), "space_identity": rng.bytes(8), "entropy_coder": int(rng.integers(0, 256)),
        "parts": tuple(p._replace(kind=int(rng.integers(0, 7)), size=_number(rng), step=int(rng.integers(-128, 128)),
                                  name=("mesh", "x", p.name)[int(rng.integers(0, 3))], scale=_number(rng) / 256)
                       for p in header.parts),
    }  # fmt: skip
    names = rng.choice(list(odd), int(rng.integers(1, 4)), replace=False)
    payload = dataclasses.replace(header, **{name: odd[name] for name in names}).to_packet().payload
    if rng.random() < 0.1:
        payload = bytes([int(rng.integers(0, 256))]) + payload[1:]
    again = [raw(0, payload)] if rng.random() < 0.8 else [base.packets[0].to_bytes(), raw(0, payload)]
    return _as_file([*again, *(packet.to_bytes() for packet in base.packets[1:])])


def baited(base: Base, rng: np.random.Generator) -> bytes:
    """Bytes in which the search for packets fails."""
    length = int(rng.integers(0, 1 << int(rng.integers(1, 15))))
    bait = bytes([int(rng.integers(1, 4))]) + b"\0\x01" + put_number(int(rng.integers(0, 1 << 16)))
    rubbish = (rng.bytes(length), bait * (length // len(bait)), bytes([int(rng.integers(0, 6))]) * length)
    start = base.packets[0].to_bytes() if rng.random() < 0.8 else b""
    return MAGIC[: 8 if rng.random() < 0.95 else 5] + start + rubbish[int(rng.integers(0, 3))]


def overstated(base: Base, rng: np.random.Generator) -> bytes:
    """A few bytes that state as much motion and sound as they can, far ahead, and an index that states more."""
    out = [packet.to_bytes() for packet in base.packets if packet.kind in (Kind.HEADER, Kind.PIVOT)]
    frame = 0
    for _ in range(int(rng.integers(1, 60))):
        payload = rng.bytes(int(rng.integers(0, 64)))
        count = [8, 8 + 4 * len(payload), 250, 32768, _number(rng)][int(rng.integers(0, 5))]
        refresh = rng.random() < 0.5
        out.append(raw(0x82 if refresh else 2, payload, frame % (1 << 14), count, 0 if refresh else None))
        frame += count if rng.random() < 0.7 else int(rng.integers(0, 8191))
        out.append(raw(3, put_number(_number(rng)) + b"\x01\xf8" * 25, frame % (1 << 14), 25))
    index = Index(_number(rng), []).to_packet().to_bytes()
    return _as_file([*out, index, struct.pack("<I", len(index))])


def bombed(base: Base, rng: np.random.Generator) -> bytes:
    """Reference frames whose images are larger, or more, than stated."""
    coding, image = int(rng.integers(0, 5)), bomb(int(rng.integers(0, 8)))
    data = bytes([coding]) + put_number(len(image) if rng.random() < 0.9 else _number(rng)) + image
    parts = [data[i : i + 60000] for i in range(0, len(data), 60000)]
    pivots = [raw(1, bytes([i % 256]) + part, 0, len(parts), 0) for i, part in enumerate(parts)]
    rest = [packet.to_bytes() for packet in base.packets[1:] if packet.kind is not Kind.PIVOT]
    return _as_file([base.packets[0].to_bytes(), *pivots, *rest])


@functools.cache
def bomb(which: int) -> bytes:
    """Images that decode to far more than their size."""
    from PIL import Image

    flat, large = (np.full((side, side, 3), 90, np.uint8) for side in (SIZE, 2048))
    if which in (0, 1):
        return encode_image(flat, (ReferenceCoding.AV1, ReferenceCoding.HEVC)[which]) * (5000, 1000)[which]
    if which in (2, 3, 4):
        return encode_image(large, ReferenceCoding(which - 2), 1)
    out = io.BytesIO()
    if which == 5:
        frames = [Image.fromarray(np.full((SIZE, SIZE, 3), i, np.uint8)) for i in range(200)]
        frames[0].save(out, "webp", save_all=True, append_images=frames[1:])
    elif which == 6:
        Image.fromarray(np.zeros((4000, 4000, 3), np.uint8)).save(out, "webp", lossless=True)
    else:  # a canvas as large as can be stated
        body = b"WEBPVP8X" + struct.pack("<I", 10) + b"\x02\0\0\0" + b"\xfe\x3f\0" * 2
        out.write(b"RIFF" + struct.pack("<I", len(body)) + body)
    return out.getvalue()


CHEAP: tuple[Mutation, ...] = (truncated, flipped, spliced, shuffled, tampered, reheaded, baited)
COSTLY: tuple[Mutation, ...] = (overstated, bombed)

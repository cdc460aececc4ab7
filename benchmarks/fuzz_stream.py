"""What broken and hostile `.avfr` streams can do to a reader: nothing but a clear error or a picture.

    python -m benchmarks.fuzz_stream --streams 100000 --deep 300

Every stream is made from its number and the seed (`--only N` makes one again). All are read, followed without a model,
described and drawn by a stand-in that costs nothing; `--deep` of them go through `decode_file` with `landmark-warp`
and a real video. An exception other than InputError and ConfigError, more frames than the file's length allows, or
more than `--seconds` of processor time for one stream is a finding. Memory is read as Linux tells it.
"""

import argparse
import binascii
import collections
import contextlib
import dataclasses
import functools
import io
import pathlib
import struct
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import avfr_jax
from avfr_jax.codec import files, mesh_basis
from avfr_jax.codec.bitstream import (
    MAGIC,
    Header,
    Index,
    Kind,
    Packet,
    largest_length,
    put_number,
    read_packet,
    read_stream,
    write_stream,
)
from avfr_jax.codec.files import RESIDUAL_CODEC, Stream, decode_file, decode_frames, encode_file
from avfr_jax.codec.intra_coding import ImageCodec, encode_image
from avfr_jax.codec.receiver import Receiver
from avfr_jax.codec.sender import FAITHFUL, Sender, SenderSettings
from avfr_jax.codec.stream_statistics import describe_stream
from avfr_jax.errors import ConfigError, InputError
from avfr_jax.landmarks import normalise_landmarks
from avfr_jax.model_store import load_model
from avfr_jax.models.base import EncodedSource
from avfr_jax.models.residual import ResidualConfig
from avfr_jax.motion import Keypoints

CLIP = pathlib.Path(avfr_jax.__file__).with_name("assets") / "driver.mp4"
SIZE = 64
_FRAMES = 24


class StandIn:
    """A model that draws its source in no time.

    Args:
      family: whose motion it takes: the mesh's (`landmark-warp`) or that of two keypoints (`fomm`).
    """

    name, needs = "landmark-warp", frozenset[str]()
    image_size, num_keypoints, batch_size = SIZE, 2, 4

    def __init__(self, family: str) -> None:
        self.family = family

    def keypoints(self, frames: Any, priors: Any = None) -> Keypoints:
        """Two that go with the brightness."""
        level = np.asarray(frames).mean((1, 2, 3))
        return Keypoints(np.stack([np.stack([level, -level], -1), np.stack([level / 2, level / 3], -1)], 1))

    def encode_source(self, source: Any, keypoints: Any, priors: Any = None) -> EncodedSource:
        """The source."""
        return EncodedSource(np.asarray(source), ())

    def animate(self, source: Any, source_keypoints: Any, driving: Any, mel: Any = None) -> Any:
        """The source, once for each frame."""
        return np.broadcast_to(source.image, (len(driving.value), SIZE, SIZE, 3))


class StandInRepairer:
    """A residual coder that makes each cell brighter or darker by what its first signs say."""

    name = RESIDUAL_CODEC
    config = ResidualConfig(image_size=SIZE, fold=2, halvings=2, bits=6)

    def encode(self, true: Any, drawn: Any) -> Any:
        """Signs `[1, a, a, 6]`."""
        side, cell = self.config.side, self.config.cell
        left = (true.astype(np.float32) - drawn).reshape(1, side, cell, side, cell, 3).mean((2, 4, 5))
        signs = []
        for bit in range(6):
            signs.append(np.where(left < 0, -1, 1))
            left = left - signs[-1] * 64 / 2**bit
        return np.stack(signs, -1).astype(np.int8)

    def decode(self, signs: Any, drawn: Any) -> Any:
        """The drawn picture, cell by cell at another level."""
        level = sum(signs[..., bit] * 64 / 2**bit for bit in range(6))
        whole = level.repeat(self.config.cell, 1).repeat(self.config.cell, 2)[..., None]
        return np.clip(drawn + whole, 0, 255).astype(np.uint8)


REPAIRING: Any = StandInRepairer()


@dataclasses.dataclass(frozen=True, eq=False)
class Base:
    """A sound stream.

    Attributes:
      packets: header first.
      family: of the stand-in that draws it.
    """

    packets: list[Packet]
    family: str

    @functools.cached_property
    def data(self) -> bytes:
        """The file."""
        file = io.BytesIO()
        write_stream(file, self.packets)
        return file.getvalue()


def bases() -> list[Base]:
    """Short streams of each family and each form of picture, with a turn of the head and sound; a film of pictures, and
    repairs, need faces."""
    made = []
    time_line = np.arange(_FRAMES) / 4
    short = SenderSettings(components=8, refresh=8)
    settings = [dataclasses.replace(short, still=still) for still in ImageCodec]
    follows = dataclasses.replace(short, quality=0, pivots=dataclasses.replace(FAITHFUL, every=2, apart=0.1))
    film = dataclasses.replace(follows, quality=short.quality, film=True)
    for family, some in (("fomm", settings), ("landmark-warp", [*settings, film, follows])):
        for one in some:
            model: Any = StandIn(family)
            sender = Sender(model, one, sound=1, residual_codec=REPAIRING if one is follows else None)
            packets: list[Packet] = []
            for i, t in enumerate(time_line):
                frame = np.full((SIZE, SIZE, 3), 120 + 60 * np.sin(t), np.uint8)
                frame[8:40, 8:40] //= 2
                points = mesh_basis.shipped().mean + np.float32(8 * np.sin(t))
                packets += sender.push(frame, None if family == "fomm" else normalise_landmarks(points, 256, 256))
                if i % 12 == 0:
                    packets.append(Packet(Kind.SOUND, i, put_number(24 * i // 12) + b"\x04\xf8\xff\xfe\x00" * 24, 24))
            made.append(Base(packets + sender.finish(), family))
    return made


# --- mutations: a base and dice -> bytes -----------------------------------------------------------------------------

Dice = np.random.Generator
Mutation = Callable[[Base, Dice], bytes]


def raw(kind: int, payload: bytes, frame: int = 0, count: int = 1, pivot: int | None = None) -> bytes:
    """A packet with a true checksum, whatever it says."""
    head = bytes([kind]) + put_number(frame) + put_number(count) + (b"" if pivot is None else bytes([pivot]))
    body = head + put_number(len(payload)) + payload
    return body + struct.pack("<H", binascii.crc_hqx(body, 0xFFFF))


def _numbers(dice: Dice) -> int:
    """From small to absurd."""
    return int(dice.integers(0, 1 << int(dice.integers(1, 29))))


def truncated(base: Base, dice: Dice) -> bytes:
    """Cut anywhere."""
    return base.data[: int(dice.integers(0, len(base.data)))]


def flipped(base: Base, dice: Dice) -> bytes:
    """Bits the other way."""
    data = bytearray(base.data)
    for at in dice.integers(0, len(data), int(dice.integers(1, 20))):
        data[at] ^= 1 << int(dice.integers(0, 8))
    return bytes(data)


def spliced(base: Base, dice: Dice) -> bytes:
    """Bytes moved, taken out, put in twice or replaced."""
    data = base.data
    for _ in range(int(dice.integers(1, 4))):
        a, b, c = sorted(int(x) for x in dice.integers(0, len(data) + 1, 3))
        data = (
            data[:a] + data[b:c] + data[a:b] + data[c:],
            data[:a] + data[b:],
            data[:b] + data[a:b] + data[b:],
            data[:a] + dice.bytes(b - a) + data[b:],
            data[:a] + dice.bytes(int(dice.integers(0, 200))) + data[a:],
        )[int(dice.integers(0, 5))]
    return data


def _as_file(packets: Sequence[bytes]) -> bytes:
    return MAGIC + b"".join(packets)


def shuffled(base: Base, dice: Dice) -> bytes:
    """Whole packets lost, sent twice, in another order, or from another stream."""
    packets = [packet.to_bytes() for packet in base.packets]
    chosen = [packets[int(i)] for i in dice.integers(0, len(packets), int(dice.integers(1, 2 * len(packets))))]
    if dice.random() < 0.3:
        chosen = [p for p in packets for _ in range(int(dice.integers(0, 3)))]
    return _as_file([packets[0], *chosen] if dice.random() < 0.9 else chosen)


def refielded(base: Base, dice: Dice) -> bytes:
    """True checksums over frame numbers, counts, pivots and kinds that are not."""
    out = []
    for packet in base.packets:
        kind, frame, count = int(packet.kind) | 0x80 * packet.refresh, packet.frame, packet.count
        pivot: int | None = packet.pivot if packet.refresh or packet.kind is Kind.PIVOT else None
        if dice.random() < 0.03:
            frame = _numbers(dice) % (1 << 14)
        if dice.random() < 0.2:
            count = _numbers(dice)
        if dice.random() < 0.1 and pivot is not None:
            pivot = int(dice.integers(0, 256))
        if dice.random() < 0.05:
            kind = int(dice.integers(0, 256))
        out.append(raw(kind, packet.payload, frame, count, pivot))
    return _as_file(out)


def repayloaded(base: Base, dice: Dice) -> bytes:
    """True checksums over payloads that were tampered with."""
    out = []
    for packet in base.packets:
        payload = bytearray(packet.payload)
        if payload and dice.random() < 0.4:
            for at in dice.integers(0, len(payload), int(dice.integers(1, 6))):
                payload[at] = int(dice.integers(0, 256))
            if dice.random() < 0.2:
                payload = payload[: int(dice.integers(0, len(payload)))]
        kind = int(packet.kind) | 0x80 * packet.refresh
        pivot = packet.pivot if packet.refresh or packet.kind is Kind.PIVOT else None
        out.append(raw(kind, bytes(payload), packet.frame, packet.count, pivot))
    return _as_file(out)


def headed(base: Base, dice: Dice) -> bytes:
    """Headers of absurd values."""
    header = Header.of(base.packets[0])
    odd: dict[str, Any] = {
        "width": _numbers(dice), "height": _numbers(dice), "rate": (_numbers(dice), _numbers(dice)),
        "size": _numbers(dice), "slope": _numbers(dice), "refresh": _numbers(dice), "sound": _numbers(dice),
        "model": ["", "../x", "mesh-fomm", "a" * 255, "\0", "no-such", "/"][int(dice.integers(0, 7))],
        "model_identity": dice.bytes(8), "space_identity": dice.bytes(8),
        "space": tuple(int(x) for x in dice.integers(0, 5, len(header.space))),
        "components": tuple(_numbers(dice) for _ in header.space),
        "steps": tuple(int(x) for x in dice.integers(-128, 128, len(header.space))),
    }  # fmt: skip
    names = dice.choice(list(odd), int(dice.integers(1, 4)), replace=False)
    payload = dataclasses.replace(header, **{name: odd[name] for name in names}).to_packet().payload
    if dice.random() < 0.1:
        payload = bytes([int(dice.integers(0, 256))]) + payload[1:]
    again = [raw(0, payload)] if dice.random() < 0.8 else [base.packets[0].to_bytes(), raw(0, payload)]
    return _as_file([*again, *(packet.to_bytes() for packet in base.packets[1:])])


def counted(base: Base, dice: Dice) -> bytes:
    """A few bytes that state as much motion and sound as they can, far ahead, and an index that states more."""
    out = [packet.to_bytes() for packet in base.packets if packet.kind in (Kind.HEADER, Kind.PIVOT)]
    frame = 0
    for _ in range(int(dice.integers(1, 60))):
        payload = dice.bytes(int(dice.integers(0, 64)))
        count = [8, 8 + 4 * len(payload), 250, 32768, _numbers(dice)][int(dice.integers(0, 5))]
        refresh = dice.random() < 0.5
        out.append(raw(0x82 if refresh else 2, payload, frame % (1 << 14), count, 0 if refresh else None))
        frame += count if dice.random() < 0.7 else int(dice.integers(0, 8191))
        out.append(raw(3, put_number(_numbers(dice)) + b"\x01\xf8" * 25, frame % (1 << 14), 25))
    index = Index(_numbers(dice), []).to_packet().to_bytes()
    return _as_file([*out, index, struct.pack("<I", len(index))])


def bombed(base: Base, dice: Dice) -> bytes:
    """Pivots whose pictures are larger, or more, than they should be."""
    form = int(dice.integers(0, 5))
    picture = _bomb(int(dice.integers(0, 8)))
    told = bytes([form]) + put_number(len(picture) if dice.random() < 0.9 else _numbers(dice)) + picture
    parts = [told[i : i + 60000] for i in range(0, len(told), 60000)]
    pivots = [raw(1, bytes([i % 256]) + part, 0, len(parts), 0) for i, part in enumerate(parts)]
    rest = [packet.to_bytes() for packet in base.packets[1:] if packet.kind is not Kind.PIVOT]
    return _as_file([base.packets[0].to_bytes(), *pivots, *rest])


_made: dict[int, bytes] = {}


def _bomb(which: int) -> bytes:
    """Pictures that unpack to far more than they are."""
    if which not in _made:
        _made[which] = _make_bomb(which)
    return _made[which]


def _make_bomb(which: int) -> bytes:
    from PIL import Image

    flat, large = (np.full((side, side, 3), 90, np.uint8) for side in (SIZE, 2048))
    if which == 0:
        return encode_image(flat, ImageCodec.AV1) * 5000
    if which == 1:
        return encode_image(flat, ImageCodec.HEVC) * 1000
    if which in (2, 3, 4):
        return encode_image(large, (ImageCodec.WEBP, ImageCodec.AV1, ImageCodec.HEVC)[which - 2], 1)
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


def baited(base: Base, dice: Dice) -> bytes:
    """Bytes in which packets are looked for in vain."""
    length = int(dice.integers(0, 1 << int(dice.integers(1, 15))))
    bait = (
        bytes([int(dice.integers(1, 4))]) + put_number(0) + put_number(1) + put_number(int(dice.integers(0, 1 << 16)))
    )
    rubbish = (dice.bytes(length), bait * (length // len(bait)), bytes([int(dice.integers(0, 6))]) * length)
    start = base.packets[0].to_bytes() if dice.random() < 0.8 else b""
    return MAGIC[: 8 if dice.random() < 0.95 else 5] + start + rubbish[int(dice.integers(0, 3))]


CHEAP: tuple[Mutation, ...] = (truncated, flipped, spliced, shuffled, refielded, repayloaded, headed, baited)
DEAR: tuple[Mutation, ...] = (counted, bombed)
_DEAR = 200  # one of them in so many streams: the reader has thousands of frames to give out


# --- reading ---------------------------------------------------------------------------------------------------------


def read_all(data: bytes, family: str, uses: Sequence[Callable[[bytes, str], int]]) -> int:
    """Use a stream in some ways; how many frames were drawn. Raises what the reader raises."""
    drawn = 0
    errors: list[Exception] = []
    for use in uses:
        try:
            drawn += use(data, family)
        except (InputError, ConfigError) as error:
            errors.append(error)
    if drawn > largest_length(len(data)):
        raise AssertionError(f"{drawn} frames were drawn from {len(data)} bytes")
    if errors:
        raise errors[0]
    return drawn


def _receiver(family: str) -> Receiver:
    model: Any = StandIn(family)
    return Receiver(lambda name: model, lambda name: REPAIRING)


def _drawn(data: bytes, family: str) -> int:
    return sum(1 for _ in decode_frames(data, receiver=_receiver(family)))


def _followed(data: bytes, family: str) -> int:
    receiver = Receiver(None)
    for packet in read_stream(data):
        with contextlib.suppress(InputError):
            receiver.push(packet)
        if packet.kind is Kind.MOTION and receiver.can_draw:
            collections.deque(receiver.poses(receiver.known), maxlen=0)
    return 0


def _called(data: bytes, family: str) -> int:
    """As datagrams."""
    receiver, at = _receiver(family), len(MAGIC)
    with contextlib.suppress(InputError):
        while at < len(data):
            _, after = read_packet(data, at)
            receiver.push_bytes(data[at:after])
            at = after
    receiver.push_bytes(data[:1500])
    return 0


def _described(data: bytes, family: str) -> int:
    describe_stream(data)
    return 0


def _heard(data: bytes, family: str) -> int:
    with Stream.of(data).sound_file():
        return 0


_USES = (_drawn, _followed, _called, _described, _heard)


@dataclasses.dataclass
class Tally:
    """What came of the streams of one mutation."""

    streams: int = 0
    refused: int = 0
    frames: int = 0
    slowest: float = 0.0
    largest: int = 0

    def add(self, size: int, seconds: float, frames: int | None) -> None:
        """One stream more; `frames` None where it was refused."""
        self.streams, self.largest = self.streams + 1, max(self.largest, size)
        self.refused, self.frames = self.refused + (frames is None), self.frames + (frames or 0)
        self.slowest = max(self.slowest, seconds)


def make(number: int, seed: int, made: Sequence[Base]) -> tuple[Mutation, Base, bytes]:
    """The stream of a number. The first are one base cut at every point."""
    smallest = min(made, key=lambda base: len(base.data))
    if number < len(smallest.data):
        return truncated, smallest, smallest.data[:number]
    dice = np.random.default_rng([seed, number])
    base, mutation = made[int(dice.integers(0, len(made)))], CHEAP[number % len(CHEAP)]
    if number % _DEAR == 0:
        mutation = DEAR[number // _DEAR % len(DEAR)]
    return mutation, base, mutation(base, dice)


def run(
    numbers: Sequence[int], seed: int, made: Sequence[Base], use: Callable[[int, bytes, Base], int], limit: float
) -> tuple[dict[str, Tally], list[str]]:
    """Read the streams of some numbers; what came of them, and what should not have."""
    tallies: dict[str, Tally] = collections.defaultdict(Tally)
    findings = []
    for number in numbers:
        mutation, base, data = make(number, seed, made)
        start, frames = time.process_time(), None
        try:
            frames = use(number, data, base)
        except (InputError, ConfigError):
            pass
        except Exception:
            findings.append(f"{number} ({mutation.__name__}): {traceback.format_exc(limit=-4)}")
        seconds = time.process_time() - start
        if seconds > limit:
            findings.append(f"{number} ({mutation.__name__}): {seconds:.1f} s for {len(data)} bytes")
        tallies[mutation.__name__].add(len(data), seconds, frames)
    return tallies, findings


def by_stand_in(number: int, data: bytes, base: Base) -> int:
    """Drawn; every fifth stream is followed, called, described and heard as well."""
    return read_all(data, base.family, _USES if number % 5 == 0 else _USES[:1])


def by_decode_file(number: int, data: bytes, base: Base) -> int:
    """To a video, by the model itself."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "in.avfr"
        path.write_bytes(data)
        return decode_file(path, path.with_name("out.mp4"), size=64).frames


def _real() -> list[Base]:
    """The bundled clip, with each form of picture."""
    made = []
    with tempfile.TemporaryDirectory() as folder:
        for still in (ImageCodec.AV1, ImageCodec.HEVC, ImageCodec.WEBP):
            path = pathlib.Path(folder) / f"{still}.avfr"
            encode_file(CLIP, path, settings=SenderSettings(still=still, packet=25, refresh=50), sound=CLIP)
            made.append(Base(list(read_stream(path.read_bytes())), "landmark-warp"))
    return made


def _memory(what: str = "VmHWM") -> float:
    """MiB that this process has taken at most since `_begin`, or takes now (`VmRSS`)."""
    (line,) = (x for x in pathlib.Path("/proc/self/status").read_text().splitlines() if x.startswith(what))
    return int(line.split()[1]) / 1024


def _begin() -> float:
    """Forget the peak of memory so far; MiB that the process takes now."""
    pathlib.Path("/proc/self/clear_refs").write_text("5")
    return _memory("VmRSS")


def _table(tallies: dict[str, Tally]) -> None:
    print("| | streams | refused | frames | largest, KiB | slowest, ms |\n| --- | --- | --- | --- | --- | --- |")
    for name, tally in tallies.items():
        print(
            f"| {name} | {tally.streams} | {tally.refused} | {tally.frames} | {tally.largest / 1024:.0f} | "
            f"{1e3 * tally.slowest:.0f} |"
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; 1 where something was found."""
    parser = argparse.ArgumentParser(description="mutated streams through the reader")
    parser.add_argument("--streams", type=int, default=100_000)
    parser.add_argument("--deep", type=int, default=300, help="streams through decode_file with landmark-warp")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first stream")
    parser.add_argument("--only", type=int, help="this stream alone")
    parser.add_argument("--seconds", type=float, default=2.0, help="processor time that one stream may take")
    options = parser.parse_args(arguments)
    warnings.simplefilter("ignore", RuntimeWarning)  # wild poses overflow; what is drawn then is of no matter
    made = bases()
    numbers = range(options.first, options.first + options.streams) if options.only is None else [options.only]
    for which in range(8):
        _bomb(which)
    run(range(1000, 1201), options.seed + 1, made, by_stand_in, options.seconds)  # compiles
    before = _begin()
    tallies, findings = run(numbers, options.seed, made, by_stand_in, options.seconds)
    print(f"{len(numbers)} streams, seed {options.seed}; memory grew by {_memory() - before:.0f} MiB at most.\n")
    _table(tallies)
    if options.deep:
        real = _real()
        model = load_model("landmark-warp")  # once, as a program does that decodes many
        files.Receiver = functools.partial(Receiver, lambda name: model)  # type: ignore[assignment]
        run(range(100_001, 100_009), options.seed, real, by_decode_file, 1e9)  # compiles
        before = _begin()
        deep, found = run(
            range(100_000, 100_000 + options.deep), options.seed, real, by_decode_file, 30 * options.seconds
        )
        print(f"\n{options.deep} through decode_file; memory grew by {_memory() - before:.0f} MiB at most.\n")
        _table(deep)
        findings += found
    for finding in findings[:20]:
        print(f"\n{finding}", file=sys.stderr)
    print(f"\n{len(findings)} findings.")
    return int(bool(findings))


if __name__ == "__main__":
    sys.exit(main())

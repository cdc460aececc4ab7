"""HEIC files made of HEVC key frames and boxes."""

import dataclasses
import pathlib
import struct
import types

import av
import numpy as np


def box(kind: bytes, *payload: bytes) -> bytes:
    """A box of ISO/IEC 14496-12."""
    body = b"".join(payload)
    return struct.pack(">I4s", 8 + len(body), kind) + body


def full(kind: bytes, *payload: bytes, version: int = 0, flags: int = 0) -> bytes:
    """A box with version and flags."""
    return box(kind, struct.pack(">I", version << 24 | flags), *payload)


def size(width: int, height: int) -> bytes:
    """The property `ispe`."""
    return full(b"ispe", struct.pack(">II", width, height))


def nclx(primaries: int, transfer: int, matrix: int, full_range: bool) -> bytes:
    """The property `colr` with code points."""
    return box(b"colr", b"nclx", struct.pack(">HHHB", primaries, transfer, matrix, full_range << 7))


@dataclasses.dataclass
class Made:
    """An item to be written.

    Attributes:
        kind: four letters.
        data: its bytes.
        properties: boxes.
        references: type and numbers of other items, from 1 on in the order of the list.
        inside: in the box `idat` instead of the file.
    """

    kind: bytes
    data: bytes
    properties: list[bytes] = dataclasses.field(default_factory=list)
    references: list[tuple[bytes, list[int]]] = dataclasses.field(default_factory=list)
    inside: bool = False


def coded(
    making: types.SimpleNamespace,
    folder: pathlib.Path,
    picture: np.ndarray,
    pixel_format: str = "yuv444p",
    properties: tuple[bytes, ...] = (),
) -> Made:
    """An item `hvc1` of an RGB picture."""
    how = {"x265-params": "log-level=none:qp=2:bframes=0"}
    path = making.encode_video(folder / "tile.mkv", [picture], "libx265", pixel_format=pixel_format, options=how)
    with av.open(str(path)) as container:
        data = bytes(next(container.demux(video=0)))
        config = container.streams.video[0].codec_context.extradata
    assert config is not None
    return Made(b"hvc1", data, [box(b"hvcC", config), size(picture.shape[1], picture.shape[0]), *properties])


def grid(rows: int, columns: int, width: int, height: int, tiles: list[int], *properties: bytes) -> Made:
    """An item `grid`, whose data are in `idat`."""
    data = struct.pack(">BBBBHH", 0, 0, rows - 1, columns - 1, width, height)
    return Made(b"grid", data, [size(width, height), *properties], [(b"dimg", tiles)], True)


def write_heic(path: pathlib.Path, items: list[Made], primary: int, brand: bytes = b"heic") -> pathlib.Path:
    """A file of items numbered from 1; the bytes of each lie in two extents."""
    head = box(b"ftyp", brand, bytes(4), b"mif1", b"heic")
    start = len(head) + len(_meta(items, primary, 0)) + 8
    media = b"".join(item.data for item in items if not item.inside)
    path.write_bytes(head + _meta(items, primary, start) + box(b"mdat", media))
    return path


def _meta(items: list[Made], primary: int, start: int) -> bytes:
    places, at, idat = b"", start, b""
    infos, references, associations, properties = b"", b"", b"", []
    for number, item in enumerate(items, 1):
        infos += full(b"infe", struct.pack(">HH4s", number, 0, item.kind), b"\0", version=2)
        half = len(item.data) // 2
        base, idat = (len(idat), idat + item.data) if item.inside else (at, idat)
        at += 0 if item.inside else len(item.data)
        places += struct.pack(">HHHIH", number, item.inside, 0, base, 2)
        places += struct.pack(">IIII", 0, half, half, len(item.data) - half)
        for kind, targets in item.references:
            references += box(kind, struct.pack(f">HH{len(targets)}H", number, len(targets), *targets))
        first = len(properties) + 1
        properties += item.properties
        indices = range(first, first + len(item.properties))
        associations += struct.pack(f">HB{len(indices)}H", number, len(indices), *(0x8000 | i for i in indices))
    return full(
        b"meta",
        full(b"hdlr", bytes(4), b"pict", bytes(13)),
        full(b"pitm", struct.pack(">H", primary)),
        full(b"iloc", struct.pack(">HH", 0x4440, len(items)), places, version=1),
        full(b"iinf", struct.pack(">H", len(items)), infos),
        full(b"iref", references),
        box(
            b"iprp",
            box(b"ipco", *properties),
            full(b"ipma", struct.pack(">I", len(items)), associations, flags=1),
        ),
        box(b"idat", idat),
    )

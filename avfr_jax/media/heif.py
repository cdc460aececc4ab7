"""Structure of HEIF files (ISO/IEC 23008-12, 14496-12): items, where their bytes are, properties, references."""

import dataclasses
import os
import struct
from collections.abc import Iterator
from typing import BinaryIO

from avfr_jax.media.files import PathLike

HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"mif1")
_OTHER_BRANDS = (b"hevc", b"hevx", b"msf1", b"avis", b"avif")
_MOST_META = 1 << 24  # bytes of the box `meta`, some kilobytes in practice
_MOST_ITEMS = 1 << 14


class HeifError(Exception):
    """What is damaged, or not supported, in half a sentence."""


@dataclasses.dataclass
class Item:
    """An image or a part of one, or metadata.

    Attributes:
        kind: four letters: `hvc1` (coded with HEVC), `grid`, `iden`, `iovl` (derived), `Exif`, ….
        method: 0 if the extents are in the file, 1 if they are in the box `idat`, 2 if in another item.
        extents: offset and length of each piece; length 0 stands for all the rest.
        properties: type and payload, in the order in which transformations apply.
        references: by type, numbers of other items.
    """

    kind: bytes
    method: int = 0
    extents: list[tuple[int, int]] = dataclasses.field(default_factory=list)
    properties: list[tuple[bytes, bytes]] = dataclasses.field(default_factory=list)
    references: dict[bytes, list[int]] = dataclasses.field(default_factory=dict)

    def property(self, kind: bytes) -> bytes | None:
        """The payload of the first property of a type."""
        return next((payload for name, payload in self.properties if name == kind), None)


class Heif:
    """The items of an open file.

    Attributes:
        primary: number of the item to be shown.
        items: by number.

    Raises:
        HeifError: the boxes contradict each other or the file's length.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._length = stream.seek(0, 2)
        boxes = {kind: (at, end) for kind, at, end in _top_level(stream, self._length)}
        if b"meta" not in boxes:
            raise HeifError("it has no box meta")
        at, end = boxes[b"meta"]
        if end - at > _MOST_META:
            raise HeifError("its box meta is too large")
        stream.seek(at)
        try:
            self._parse(stream.read(end - at)[4:])
        except (struct.error, IndexError) as error:
            raise HeifError("its box meta is cut short") from error

    def _parse(self, meta: bytes) -> None:
        boxes = dict(_boxes(meta))
        missing = [kind.decode() for kind in (b"pitm", b"iinf", b"iloc", b"iprp") if kind not in boxes]
        if missing:
            raise HeifError(f"it has no box {missing[0]}")
        self._idat = boxes.get(b"idat", b"")
        self.items = dict(_infos(boxes[b"iinf"]))
        self.primary = _Fields(boxes[b"pitm"], 4).number(4 if boxes[b"pitm"][0] else 2)
        _locate(boxes[b"iloc"], self.items)
        _refer(boxes.get(b"iref", bytes(4)), self.items)
        _associate(boxes[b"iprp"], self.items)
        if self.primary not in self.items:
            raise HeifError("its primary item is missing")

    def data(self, item: Item) -> bytes:
        """An item's bytes.

        Raises:
            HeifError: they lie outside of the file, or in another item.
        """
        if item.method not in (0, 1):
            raise HeifError("its items are parts of other items")
        length = len(self._idat) if item.method else self._length
        pieces, total = [], 0
        for at, size in item.extents:
            size = size or length - at
            total += size
            if size < 0 or at + size > length or total > length:
                raise HeifError("an item lies outside of it")
            if item.method:
                pieces.append(self._idat[at : at + size])
            else:
                self._stream.seek(at)
                pieces.append(self._stream.read(size))
        if not total:
            raise HeifError("an item is empty")
        return b"".join(pieces)


def is_heic(path: PathLike) -> bool:
    """Whether a file is a still HEIF picture other than AVIF, by its brands. False for what is no file."""
    if not os.path.isfile(path):  # a pipe would block
        return False
    try:
        with open(path, "rb") as stream:
            head = stream.read(256)
    except OSError:
        return False
    if head[4:8] != b"ftyp":
        return False
    end = min(int.from_bytes(head[:4], "big"), len(head))
    brands = [head[8:12], *(head[at : at + 4] for at in range(16, end - 3, 4))]
    return brands[0] not in _OTHER_BRANDS and b"avif" not in brands and any(brand in HEIC_BRANDS for brand in brands)


class _Fields:
    """Big-endian numbers one after another. Raises struct.error at the end."""

    def __init__(self, data: bytes, at: int = 0) -> None:
        self.data, self.at = data, at

    def number(self, size: int) -> int:
        """An unsigned number of `size` bytes; 0 of none."""
        value = self.take(size)
        return int.from_bytes(value, "big")

    def take(self, size: int) -> bytes:
        """The next bytes."""
        if size > len(self.data) - self.at:
            raise struct.error("cut short")
        self.at += size
        return self.data[self.at - size : self.at]


def _header(head: bytes, left: int) -> tuple[bytes, int, int]:
    """Type, length of the header and length of a box of which `left` bytes are there."""
    size, kind = struct.unpack(">I4s", head[:8])
    if size == 1:
        return kind, 16, struct.unpack(">Q", head[8:16])[0]
    return kind, 8, size or left


def _top_level(stream: BinaryIO, length: int) -> Iterator[tuple[bytes, int, int]]:
    """Type, begin and end of the payload of each box of the file."""
    at = 0
    while at + 8 <= length:
        stream.seek(at)
        try:
            kind, header, size = _header(stream.read(16), length - at)
        except struct.error:
            return
        if size < header or at + size > length:
            return
        yield kind, at + header, at + size
        at += size


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Type and payload of each box."""
    at = 0
    while at + 8 <= len(data):
        kind, header, size = _header(data[at : at + 16], len(data) - at)
        if size < header or at + size > len(data):
            raise HeifError("its boxes overlap")
        yield kind, data[at + header : at + size]
        at += size


def _infos(box: bytes) -> Iterator[tuple[int, Item]]:
    """`iinf`: number and kind of each item. Before version 2 of `infe` there were no images."""
    for count, (kind, entry) in enumerate(_boxes(box[6 if box[0] == 0 else 8 :])):
        if count >= _MOST_ITEMS:
            raise HeifError("it has too many items")
        if kind == b"infe" and entry[0] >= 2:
            fields = _Fields(entry, 4)
            number = fields.number(2 if entry[0] == 2 else 4)
            fields.take(2)
            yield number, Item(fields.take(4))


def _locate(box: bytes, items: dict[int, Item]) -> None:
    """`iloc`: construction method and extents of each item."""
    version, fields = box[0], _Fields(box, 4)
    sizes = fields.number(2)
    offset_size, length_size, base_size, index_size = (sizes >> shift & 15 for shift in (12, 8, 4, 0))
    for _ in range(fields.number(4 if version == 2 else 2)):
        number = fields.number(4 if version == 2 else 2)
        method = fields.number(2) & 15 if version else 0
        elsewhere = fields.number(2)
        base = fields.number(base_size)
        extents = []
        for _ in range(fields.number(2)):
            fields.take(index_size if version else 0)
            extents.append((base + fields.number(offset_size), fields.number(length_size)))
        if number in items:
            items[number].method, items[number].extents = (2 if elsewhere else method), extents


def _refer(box: bytes, items: dict[int, Item]) -> None:
    """`iref`: references of each type."""
    code, size = ("I", 4) if box[0] else ("H", 2)
    for kind, entry in _boxes(box[4:]):
        number, count = struct.unpack_from(f">{code}H", entry)
        if number in items:
            items[number].references[kind] = list(struct.unpack_from(f">{count}{code}", entry, size + 2))


def _associate(box: bytes, items: dict[int, Item]) -> None:
    """`iprp`: the properties of each item."""
    boxes = list(_boxes(box))
    properties = [entry for kind, payload in boxes if kind == b"ipco" for entry in _boxes(payload)]
    for kind, payload in boxes:
        if kind != b"ipma":
            continue
        fields, wide = _Fields(payload, 4), payload[3] & 1
        for _ in range(fields.number(4)):
            number = fields.number(4 if payload[0] else 2)
            indices = [fields.number(2 if wide else 1) & (0x7FFF if wide else 0x7F) for _ in range(fields.number(1))]
            if number in items:
                items[number].properties += [properties[index - 1] for index in indices if index]

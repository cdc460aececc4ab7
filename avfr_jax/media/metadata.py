"""Pictures without their metadata, for files of which these alone are damaged."""

import re
import struct
import zlib
from typing import BinaryIO

from avfr_jax.media.files import PathLike

_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_PIXELS = (b"IHDR", b"PLTE", b"IDAT", b"IEND")
_PNG_ANIMATION = (b"acTL", b"fcTL", b"fdAT")
_PNG_COLOUR = (b"tRNS", b"iCCP", b"sRGB")
_MOST_BYTES = 1 << 29


def without_metadata(path: PathLike) -> bytes | None:
    """The file with pixels, animation, transparency and colour profile alone; None where that is not known.

    PNG: chunks of other types are left out, as are those of the types above that the picture does not need and whose
    checksum is wrong (PNG specification, 3rd edition, 13.2). AVIF: the item with EXIF data is given a type without
    meaning (`infe` of ISO/IEC 14496-12, 8.11.6.2).
    """
    with open(path, "rb") as stream:
        head = stream.read(8)
        if head == _PNG:
            return _bare_png(stream)
        if head[4:] == b"ftyp" and stream.seek(0, 2) < _MOST_BYTES:
            stream.seek(0)
            return re.sub(rb"(infe\x02.{7}|infe\x03.{9})Exif", rb"\1free", stream.read(), flags=re.DOTALL)
    return None


def _bare_png(stream: BinaryIO) -> bytes | None:
    kept, size = [_PNG], 0
    while len(head := stream.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        if kind in _PNG_PIXELS + _PNG_ANIMATION + _PNG_COLOUR:
            size += length
            if size > _MOST_BYTES:
                return None
            body = stream.read(length + 4)
            intact = zlib.crc32(kind + body[:-4]).to_bytes(4, "big") == body[-4:]
            if intact or kind in _PNG_PIXELS:
                kept += [head, body]
        else:
            stream.seek(length + 4, 1)
    return b"".join(kept)

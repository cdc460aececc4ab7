"""Statistics of a stream: its bytes by kind of packet, and over time."""

import collections
import os
from typing import Any

from avfr_jax.codec.bitstream import REFERENCES, Kind, ReferenceCoding
from avfr_jax.codec.container import Damage, read_stream
from avfr_jax.codec.header import Header

_BARS = 600  # of a plot, about


def describe_stream(data: bytes) -> dict[str, Any]:
    """Facts of a stream: header, length, and for each kind of packet how many, their bytes and kbit/s.

    Raises:
      BitstreamError: it is not a stream.
    """
    damage = Damage()
    header: Header | None = None
    packets: collections.Counter[Kind] = collections.Counter()
    size: collections.Counter[Kind] = collections.Counter()
    pivots, codings, refreshes, frames = 0, set(), 0, 0
    for packet in read_stream(data, damage):
        if packet.kind is Kind.HEADER:
            header = Header.from_packet(packet)
        packets[packet.kind] += 1
        size[packet.kind] += len(packet.to_bytes())
        if packet.kind in REFERENCES:
            pivots += packet.payload[:1] == b"\0"  # its first part
            codings.add(packet.coding)
        if packet.kind is Kind.MOTION:
            frames = max(frames, packet.end(header.skipped_frames if header else 0))
            refreshes += packet.refresh
    facts: dict[str, Any] = {"bytes": len(data)}
    if header is not None:
        seconds = max(frames, 1) * header.rate[1] / header.rate[0]
        facts |= {
            "frames": frames,
            "seconds": round(seconds, 3),
            "kilobits a second": round(len(data) * 8 / seconds / 1000, 3),
            "holds": "a face's motion and no image (a template)"
            if codings - {None} == {ReferenceCoding.NONE}
            else "images and motion",
            "shown": f"{header.width} × {header.height}",
            "frames a second": header.frames_per_second,
            "skipped frames": header.skipped_frames,
            "model": f"{header.model} ({header.size} × {header.size}, {header.fingerprint.hex()})",
            **(
                {"residual_codec": f"{header.residual_codec} ({header.residual_codec_fingerprint.hex()})"}
                if header.residual_codec
                else {}
            ),
            "numbers a frame": sum(part.size for part in header.parts),
            "pivots": pivots,
            "refreshes": refreshes,
            "damaged bytes": damage.skipped,
        }
        rates = {k.name.lower(): f"{size[k] * 8 / seconds / 1000:.3f}" for k in Kind if packets[k]}
        facts |= {
            f"{k.name.lower()} packets": f"{packets[k]}, {size[k]} bytes, {rates[k.name.lower()]} kbit/s"
            for k in Kind if packets[k]
        }  # fmt: skip
    return facts


def plot_stream(data: bytes, path: str | os.PathLike[str], overwrite: bool = False) -> None:
    """Plot kbit/s over time by kind of packet, second by second; in long streams, over some seconds each.

    Raises:
      BitstreamError: it is not a stream.
      OutputError: the plot cannot be written.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    from avfr_jax.media.files import atomic_file, check_output

    target = check_output(path, overwrite, (".png",))
    spent: dict[Kind, collections.Counter[int]] = collections.defaultdict(collections.Counter)
    rate, each = 25.0, 1
    length = max((packet.frame for packet in read_stream(data)), default=0)
    for packet in read_stream(data):
        if packet.kind is Kind.HEADER:
            header = Header.from_packet(packet)
            rate = header.frames_per_second
            each = max(1, int(length / rate / _BARS))  # seconds
        spent[packet.kind][int(packet.frame / rate / each)] += len(packet.to_bytes())
    bars = range(max(max(s) for s in spent.values()) + 1)
    figure, axes = pyplot.subplots(figsize=(8, 3), layout="constrained")
    bottom = [0.0] * len(bars)
    for kind in sorted(spent):
        heights = [spent[kind][bar] * 8 / 1000 / each for bar in bars]
        axes.bar([bar * each for bar in bars], heights, each, bottom, align="edge", label=kind.name.lower())
        bottom = [a + b for a, b in zip(bottom, heights, strict=True)]
    axes.set(xlabel="seconds", ylabel="kbit/s")
    axes.legend()
    with atomic_file(target, overwrite) as scratch:
        figure.savefig(scratch, dpi=120)
    pyplot.close(figure)

"""What a stream spends its bytes on."""

import collections
import os
from typing import Any

from avfr_jax.codec.bitstream import PICTURES, Damage, Header, Kind, read_stream
from avfr_jax.codec.intra_coding import ImageCodec, form_of

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
    pivots, forms, refreshes, frames = 0, set(), 0, 0
    for packet in read_stream(data, damage):
        if packet.kind is Kind.HEADER:
            header = Header.of(packet)
        packets[packet.kind] += 1
        size[packet.kind] += len(packet.to_bytes())
        if packet.kind in PICTURES:
            pivots += packet.payload[:1] == b"\0"  # its first part
            forms.add(form_of(packet))
        if packet.kind is Kind.MOTION:
            frames = max(frames, packet.end(header.between if header else 0))
            refreshes += packet.refresh
    facts: dict[str, Any] = {"bytes": len(data)}
    if header is not None:
        seconds = max(frames, 1) * header.rate[1] / header.rate[0]
        facts |= {
            "frames": frames,
            "seconds": round(seconds, 3),
            "kilobits a second": round(len(data) * 8 / seconds / 1000, 3),
            "holds": "a face's motion and no picture (a template)"
            if forms - {None} == {ImageCodec.NONE}
            else "pictures and motion",
            "shown": f"{header.width} × {header.height}",
            "frames a second": header.rate[0] / header.rate[1],
            "frames between two that are sent": header.between,
            "model": f"{header.model} ({header.size} × {header.size}, {header.model_identity.hex()})",
            **(
                {"residual_codec": f"{header.residual_codec} ({header.residual_codec_fingerprint.hex()})"}
                if header.residual_codec
                else {}
            ),
            "numbers a frame": sum(header.components),
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
    """Draw kbit/s over time by kind of packet, second by second; in long streams, over some seconds each.

    Raises:
      BitstreamError: it is not a stream.
      OutputError: the picture cannot be written.
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
            header = Header.of(packet)
            rate = header.rate[0] / header.rate[1]
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

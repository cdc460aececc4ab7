"""Curves of `avfr_jax.codec`, from the coarsest motion and pivots to the finest."""

import dataclasses
import io
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any

import numpy as np

import avfr_jax
from avfr_jax.codec.background import find_embedder
from avfr_jax.codec.bitstream import Packet
from avfr_jax.codec.container import write_stream
from avfr_jax.codec.files import RESIDUAL_CODEC, decode_frames
from avfr_jax.codec.receiver import Receiver
from avfr_jax.codec.sender import Sender, send_all
from avfr_jax.codec.settings import FAITHFUL, FOR_FILES, SenderSettings
from avfr_jax.codec.upscaling import INTERPOLATOR, SUPER_RESOLVER, resize_frames
from avfr_jax.model_store import describe_model, load_interpolator, load_model, load_residual_codec, load_super_resolver
from avfr_jax.tracking import track
from avfr_jax.typing import Float, UInt8
from experiments.rate_distortion.base import Coded

# (step of the motion, quality of the pivots, degrees between pivots)
_POINTS = ((20, 30, 30.0), (14, 50, 15.0), (10, 60, 10.0), (6, 70, 7.0))
_FAITHFUL_POINTS = ((0, 0.02), (6, 0.015), (13, 0.01), (25, 0.006))  # (quality of the pivots, distortion threshold)
_RESIDUAL_POINTS = ((10, 0.015), (25, 0.012), (40, 0.01), (55, 0.006))


@dataclasses.dataclass(frozen=True)
class Ours:
    """One setting of `avfr_jax.codec`.

    Attributes:
      name: of the curve.
      model: for rendering.
      sending: settings of the sender.
      file: render as a file, with cross-fades to later reference frames.
      label: of the point; empty for step and quality.
      residual_codec: codes later pivots; None for images.
      background: whether the sender compares backgrounds.
      interpolator: renders the skipped frames; None interpolates motion.
      super_resolver: upscales frames; None for bicubic.
      windows: of the super-resolver, pixels of a side; None for its own.
    """

    name: str
    model: str
    sending: SenderSettings
    file: bool = False
    label: str = ""
    residual_codec: str | None = None
    background: bool = False
    interpolator: str | None = None
    super_resolver: str | None = None
    windows: int | None = None

    @property
    def point(self) -> str:
        return self.label or f"{self.sending.step}/{self.sending.quality}"

    @property
    def settings(self) -> Mapping[str, str]:
        known = {"version": avfr_jax.__version__, "sending": repr(self.sending)}
        known |= {name: str(getattr(self, name)) for name in ("file", "background", "windows")}
        for role in ("model", "residual_codec", "interpolator", "super_resolver"):
            name = getattr(self, role)
            known[role] = "" if name is None else f"{name} {describe_model(name).fingerprint}"
        return known

    def code(
        self, frames: UInt8[np.ndarray, "n h w 3"], fps: float, audio: Float[np.ndarray, " t"] | None = None
    ) -> Coded:
        """See `VideoCodec.code`; the encoding time includes face tracking. The sound is not sent."""
        model = load_model(self.model)
        start = time.perf_counter()
        packets = self._packets(model, frames, fps)
        file = io.BytesIO()
        size = write_stream(file, packets, lambda: len(frames))
        encoded = time.perf_counter() - start
        receive = self._receiving(file.getvalue(), model, frames.shape[2], frames.shape[1])
        next(receive())  # compiles
        start = time.perf_counter()
        shown = np.stack(list(receive()))
        decoded = time.perf_counter() - start
        return Coded({kind.name.lower(): size[kind] for kind in size if size[kind]}, shown, encoded, decoded)

    def _receiving(self, data: bytes, model: Any, width: int, height: int) -> Callable[[], Iterator[Any]]:
        """A function that decodes the frames at the clip's size."""
        interpolator = None if self.interpolator is None else load_interpolator(self.interpolator)
        super_resolver = None if self.super_resolver is None else load_super_resolver(self.super_resolver)
        if super_resolver is not None and self.windows is not None:
            super_resolver = super_resolver.with_windows(self.windows)

        def receive() -> Iterator[Any]:
            receiver = Receiver(model, cross_fade=self.file, interpolator=interpolator)
            return resize_frames(decode_frames(data, receiver=receiver), width, height, super_resolver)

        return receive

    def _packets(self, model: Any, frames: Any, fps: float) -> list[Packet]:
        rate = Fraction(fps).limit_denominator(1001)
        residual_codec = None if self.residual_codec is None else load_residual_codec(self.residual_codec)
        background = find_embedder() if self.background else None
        given: Any = {"rate": rate.as_integer_ratio(), "residual_codec": residual_codec, "background": background}
        sender = Sender(model, self.sending, **given)
        tracked = track(frames, model.image_size, capabilities=model.capabilities, crop="none")
        return list(send_all(sender, ((one.image, one.landmarks, one.person_mask) for one in tracked)))


def _curve(name: str, base: SenderSettings, file: bool) -> Callable[[], Sequence[Ours]]:
    points = []
    for step, quality, angle in _POINTS:
        pivots = dataclasses.replace(base.pivots, angle=angle)
        sending = dataclasses.replace(base, step=step, quality=quality, pivots=pivots)
        points.append(Ours(name, "landmark-warp", sending, file))
    return lambda: points


def _faithful_curve(
    name: str, base: SenderSettings, file: bool, residual_codec: str | None = None
) -> Callable[[], Sequence[Ours]]:
    points = []
    for quality, threshold in _FAITHFUL_POINTS if residual_codec is None else _RESIDUAL_POINTS:
        pivots = dataclasses.replace(FAITHFUL, distortion_threshold=threshold, bitrate=base.pivots.bitrate)
        sending = dataclasses.replace(base, inter_coding=residual_codec is None, quality=quality, pivots=pivots)
        points.append(Ours(name, "landmark-warp", sending, file, residual_codec=residual_codec))
    return lambda: points


# --- the papers' tables -----------------------------------------------------------------------------------------------


def _row(table: str, label: str, skipped: int = 0, **changed: Any) -> Ours:
    sending = dataclasses.replace(FOR_FILES, skipped_frames=skipped)
    interpolator = INTERPOLATOR if skipped else None
    return Ours(f"avfr-{table}", "landmark-warp", sending, True, label, interpolator=interpolator, **changed)


def table31() -> Sequence[Ours]:
    """Table 3.1: motion alone, with every second frame skipped, and upscaled by the network too."""
    return [
        _row("table3.1", "keypoints"),
        _row("table3.1", "interpolation", 1),
        _row("table3.1", "interpolation+enlarged", 1, super_resolver=SUPER_RESOLVER),
    ]


def table32() -> Sequence[Ours]:
    """Table 3.2: none to three skipped frames between two, upscaled by the network."""
    return [_row("table3.2", str(n), n, super_resolver=SUPER_RESOLVER) for n in range(4)]


def table33() -> Sequence[Ours]:
    """Table 3.3: bicubic, then one network in windows of several sizes (the paper trained one for each)."""
    by_network = [
        _row("table3.3", str(side), 1, super_resolver=SUPER_RESOLVER, windows=side) for side in (128, 64, 32, 16)
    ]
    return [_row("table3.3", "bicubic", 1), *by_network]


def table34() -> Sequence[Ours]:
    """Table 3.4: adaptive pivots by the background and by the head angle alone."""

    def row(label: str, angle: float | None, background: float | None) -> Ours:
        plain = _row("table3.4", label, 1, super_resolver=SUPER_RESOLVER, background=background is not None)
        pivots = dataclasses.replace(FOR_FILES.pivots, angle=angle, background=background)
        return dataclasses.replace(plain, sending=dataclasses.replace(plain.sending, pivots=pivots))

    behind = [row(f"background-{far}", None, far) for far in (0.05, 0.06, 0.07)]
    return [*behind, *(row(f"angle-{turn}", float(turn), None) for turn in (15, 30, 45))]


CURVES: Mapping[str, Callable[[], Sequence[Ours]]] = {
    "avfr": _curve("avfr", FOR_FILES, True),  # refreshed every ten seconds, without a trained network
    "avfr-call": _curve("avfr-call", SenderSettings(), False),  # refreshed four times a second
    "avfr-faithful": _faithful_curve("avfr-faithful", FOR_FILES, True),  # encode --faithful
    "avfr-faithful-call": _faithful_curve("avfr-faithful-call", SenderSettings(), False),
    "avfr-repaired": _faithful_curve("avfr-repaired", FOR_FILES, True, RESIDUAL_CODEC),  # with --residual-codec
    "avfr-table3.1": table31,
    "avfr-table3.2": table32,
    "avfr-table3.3": table33,
    "avfr-table3.4": table34,
}

"""Our own codec's curve: from the coarsest motion and plainest pivots to the finest."""

import dataclasses
import io
import time
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any

import numpy as np

import avfr_jax
from avfr_jax.codec.bitstream import Packet, write_stream
from avfr_jax.codec.files import REPAIRER, decode_frames, resized
from avfr_jax.codec.identity import model_identity
from avfr_jax.codec.receiver import Receiver
from avfr_jax.codec.sender import FAITHFUL, FOR_FILES, Sender, SenderSettings, send_all
from avfr_jax.model_store import load_model, load_repairer
from avfr_jax.reenact import Reenactor
from avfr_jax.typing import Float, UInt8
from experiments.rate_distortion.base import Coded

# (step of the motion, quality of the pivots, degrees between pivots)
_POINTS = ((20, 30, 30.0), (14, 50, 15.0), (10, 60, 10.0), (6, 70, 7.0))
_FAITHFUL_POINTS = ((0, 0.02), (6, 0.015), (13, 0.01), (25, 0.006))  # (quality of the pivots, excess)


@dataclasses.dataclass(frozen=True)
class Ours:
    """One setting of `avfr_jax.codec`.

    Attributes:
      name: of the curve.
      model: which draws.
      sending: how it is coded.
      file: it is drawn as a file is, where later pictures are known.
      repairer: tells later pivots; None sends pictures.
    """

    name: str
    model: str
    sending: SenderSettings
    file: bool = False
    repairer: str | None = None

    @property
    def point(self) -> str:
        """The motion's step and the pivots' quality."""
        return f"{self.sending.step}/{self.sending.quality}"

    @property
    def settings(self) -> Mapping[str, str]:
        """All that decides the outcome."""
        known = {"version": avfr_jax.__version__, "model": f"{self.model} {model_identity(self.model).hex()}"}
        if self.repairer is not None:
            known["repairer"] = f"{self.repairer} {model_identity(self.repairer).hex()}"
        return known | {"sending": repr(self.sending), "file": str(self.file)}

    def code(
        self, frames: UInt8[np.ndarray, "n h w 3"], fps: float, audio: Float[np.ndarray, " t"] | None = None
    ) -> Coded:
        """See `VideoCodec.code`; the time of encoding is that of finding the face too. The sound is not sent."""
        model = load_model(self.model)
        start = time.perf_counter()
        packets = self._packets(model, frames, fps)
        file = io.BytesIO()
        size = write_stream(file, packets)
        encoded = time.perf_counter() - start
        next(self._shown(file.getvalue(), model))  # compiles
        start = time.perf_counter()
        shown = np.stack(list(self._shown(file.getvalue(), model)))
        decoded = time.perf_counter() - start
        if shown.shape[1:] != frames.shape[1:]:
            shown = np.stack([resized(one, frames.shape[2], frames.shape[1]) for one in shown])
        return Coded({kind.name.lower(): size[kind] for kind in size if size[kind]}, shown, encoded, decoded)

    def _shown(self, data: bytes, model: Any) -> Iterator[Any]:
        receiver = Receiver(lambda name: model)
        receiver.blend = self.file
        return decode_frames(data, receiver=receiver)

    def _packets(self, model: Any, frames: Any, fps: float) -> list[Packet]:
        rate = Fraction(fps).limit_denominator(1001)
        repairer = None if self.repairer is None else load_repairer(self.repairer)
        sender = Sender(model, self.sending, rate=rate.as_integer_ratio(), repairer=repairer)
        watched = Reenactor(model, crop="none").watch(frames)
        return list(send_all(sender, ((seen.view, seen.landmarks) for seen in watched)))


def _curve(name: str, model: str, base: SenderSettings, file: bool) -> Sequence[Ours]:
    points = []
    for step, quality, angle in _POINTS:
        pivots = dataclasses.replace(base.pivots, angle=angle)
        sending = dataclasses.replace(base, step=step, quality=quality, pivots=pivots)
        points.append(Ours(name, model, sending, file))
    return points


def _faithful_curve(
    name: str, model: str, base: SenderSettings, file: bool, repairer: str | None = None
) -> Sequence[Ours]:
    points = []
    for quality, excess in _FAITHFUL_POINTS:
        pivots = dataclasses.replace(FAITHFUL, excess=excess, bitrate=base.pivots.bitrate)
        sending = dataclasses.replace(base, film=repairer is None, quality=quality, pivots=pivots)
        points.append(Ours(name, model, sending, file, repairer))
    return points


def files() -> Sequence[Ours]:
    """Everything refreshed every ten seconds, drawn without a trained network."""
    return _curve("avfr", "landmark-warp", FOR_FILES, True)


def calls() -> Sequence[Ours]:
    """As a call sends it: refreshed twice a second, a packet every three frames."""
    return _curve("avfr-call", "landmark-warp", SenderSettings(), False)


def faithful_files() -> Sequence[Ours]:
    """`avfr encode --faithful`."""
    return _faithful_curve("avfr-faithful", "landmark-warp", FOR_FILES, True)


def faithful_calls() -> Sequence[Ours]:
    """`avfr encode --faithful --call`."""
    return _faithful_curve("avfr-faithful-call", "landmark-warp", SenderSettings(), False)


def repaired_files() -> Sequence[Ours]:
    """`avfr encode --faithful --repairer residual256`."""
    return _faithful_curve("avfr-repaired", "landmark-warp", FOR_FILES, True, REPAIRER)

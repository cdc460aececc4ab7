"""Settings of a sender, and the presets of files, calls and templates."""

import dataclasses

from avfr_jax.arguments import set_whole_numbers
from avfr_jax.codec.bitstream import LARGEST_RUN, MAX_SKIPPED, ReferenceCoding
from avfr_jax.codec.mesh_basis import MOTIONS
from avfr_jax.codec.pivots import PivotSettings
from avfr_jax.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class SenderSettings:
    """How a stream is coded.

    Attributes:
      components: principal components of the face mesh, 1 to 48.
      step: index of the mesh's quantiser step: four are an octave, 0 is one weighted pixel (`MotionFormat`).
      keypoint_step: the same for all other numbers, in pixels.
      keypoint_threshold: pixels of a 256 × 256 frame: leave out a frame's last keypoints that their expression moves by
        no more (`keypoint_count`), for models that were trained with ordered keypoint dropout; None sends all.
      slope: in 1/256, the share of the last change that is predicted to repeat.
      dead_zone: in steps, see `MotionWriter`.
      refresh: frames from one refresh of the motion to the next, which bounds the damage of a lost packet.
      packet: frames in one packet, which the sender waits for.
      skipped_frames: frames between two whose motion is sent, 0 to 3; the receiver interpolates them. `refresh` and
        `packet` count these too, and are rounded up to whole ones that are sent.
      reference_coding: how reference frames are intra-coded; `NONE` makes a template, to drive other portraits with.
      quality: of reference frames, 0 to 100.
      inter_coding: predict reference frames from the one before, at a third or less of the bits; AV1 alone.
      pivots: when to take a new reference frame.
      bitrate: target of everything but sound, bits a second: step, components, packet length and quality of reference
        frames then follow from it, `components` being the most; None keeps them fixed.
    """

    components: int = 32
    step: int = 14
    keypoint_step: int = -4
    keypoint_threshold: float | None = None
    slope: int = 64
    dead_zone: float = 0.25
    refresh: int = 6
    packet: int = 3
    skipped_frames: int = 0
    reference_coding: ReferenceCoding = ReferenceCoding.AV1
    quality: int = 50
    inter_coding: bool = False
    pivots: PivotSettings = PivotSettings(bitrate=32000)
    bitrate: int | None = None

    def __post_init__(self) -> None:
        least = {"components": 1, "step": -128, "keypoint_step": -128, "slope": 0, "refresh": 1, "packet": 1}
        set_whole_numbers(self, {**least, "skipped_frames": 0, "quality": 0, "bitrate": 1})
        for name, low, high in (
            ("step", -128, 60), ("keypoint_step", -128, 60), ("slope", 0, 256), ("dead_zone", 0, 0.5),
            ("refresh", 1, 1 << 13), ("packet", 1, LARGEST_RUN), ("skipped_frames", 0, MAX_SKIPPED),
        ):  # fmt: skip
            if not low <= getattr(self, name) <= high:
                raise ConfigError(f"{name} must be {low} to {high}, not {getattr(self, name)}")
        if self.keypoint_threshold is not None and not 0 <= self.keypoint_threshold < float("inf"):
            raise ConfigError(f"keypoint_threshold must be 0 or more, not {self.keypoint_threshold}")
        if self.template and self.keypoint_threshold is not None:
            raise ConfigError("a template drives other faces, which need all keypoints: leave keypoint_threshold out")
        if self.reference_coding.predicted:
            raise ConfigError(f"{self.reference_coding.name} cannot code the first reference frame")
        if self.inter_coding and self.reference_coding is not ReferenceCoding.AV1:
            raise ConfigError("reference frames can be inter-coded in AV1 alone")
        if self.template and self.pivots.distortion_threshold is not None:
            raise ConfigError("a template has no images that the sender could compare")

    @property
    def template(self) -> bool:
        """Whether no image is sent."""
        return self.reference_coding is ReferenceCoding.NONE


FAITHFUL = PivotSettings(distortion_threshold=0.01, check_interval=6, min_interval=0.24, background=None)
"""Reference frames that follow the image, a few a second, where the rendered frame needs them."""
FAITHFUL_QUALITY = 13
"""Quality of such inter-coded reference frames: AV1's CRF 55."""
RESIDUAL_QUALITY = 40
"""Quality where such reference frames are residual-coded."""
FOR_CALLS = SenderSettings()
"""Losses, and a short delay."""
FOR_FILES = SenderSettings(refresh=250, packet=125, pivots=PivotSettings())
"""No losses and no limit on delay."""
FOR_TEMPLATES = dataclasses.replace(
    FOR_FILES, reference_coding=ReferenceCoding.NONE, components=MOTIONS, step=4, pivots=PivotSettings(background=None)
)
"""No image to pay for, and other faces to drive: the finest motion that is of use."""

"""The codecs there are, by name."""

import difflib
from collections.abc import Callable, Mapping, Sequence

from avfr_jax.errors import ConfigError, MissingBackendError
from experiments.rate_distortion import ours
from experiments.rate_distortion.base import VideoCodec
from experiments.rate_distortion.rivals import RIVALS, Copy

CODECS: dict[str, Callable[[], Sequence[VideoCodec]]] = {
    "copy": lambda: [Copy()],
    "avfr": ours.files,
    "avfr-call": ours.calls,
    "avfr-faithful": ours.faithful_files,
    "avfr-faithful-call": ours.faithful_calls,
    "avfr-repaired": ours.repaired_files,
    "avfr-table3.1": ours.table31,
    "avfr-table3.2": ours.table32,
    "avfr-table3.3": ours.table33,
    "avfr-table3.4": ours.table34,
    **RIVALS,
}
"""A codec's points from the lowest rate to the highest, made when they are asked for. One that cannot run here raises
MissingBackendError with the sentence that is shown in its place. A new codec is a line here."""

ON_REQUEST = ("x264-fast", "av1-fast", "avfr-table3.1", "avfr-table3.2", "avfr-table3.3", "avfr-table3.4")
"""Left out unless they are named."""


def open_codecs(words: Sequence[str]) -> tuple[list[VideoCodec], list[str]]:
    """The codecs that the user names.

    Args:
      words: each `NAME`, all its points, or `NAME:POINT+POINT`; none: every codec but those in `ON_REQUEST`.

    Returns:
      The points, each once, in the order named; and a sentence for each codec that cannot run here.

    Raises:
      ConfigError: an unknown name or point, or no codec that can run.
    """
    found: dict[tuple[str, str], VideoCodec] = {}
    missing = []
    for word in words or [name for name in CODECS if name not in ON_REQUEST]:
        name, _, points = word.partition(":")
        if name not in CODECS:
            near = difflib.get_close_matches(name, CODECS, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(CODECS)}."
            raise ConfigError(f"There is no codec {name!r}; {hint}")
        try:
            known: Mapping[str, VideoCodec] = {codec.point: codec for codec in CODECS[name]()}
        except MissingBackendError as error:
            missing.append(str(error))
            continue
        for point in points.split("+") if points else known:
            if point not in known:
                raise ConfigError(f"{name} has no point {point!r}; it has {', '.join(known)}.")
            found[name, point] = known[point]
    if not found:
        raise ConfigError(f"None of these codecs can run here. {' '.join(missing)}")
    return list(found.values()), missing

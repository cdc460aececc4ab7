"""Codecs by name."""

import difflib
from collections.abc import Callable, Mapping, Sequence

from avfr_jax.errors import ConfigError, MissingBackendError
from experiments.rate_distortion import ours
from experiments.rate_distortion.base import VideoCodec
from experiments.rate_distortion.rivals import RIVALS, Copy

CODECS: dict[str, Callable[[], Sequence[VideoCodec]]] = {"copy": lambda: [Copy()], **ours.CURVES, **RIVALS}
"""Factories of a codec's points, from the lowest rate to the highest; MissingBackendError where it cannot run here."""

ON_REQUEST = ("x264-fast", "av1-fast", "avfr-table3.1", "avfr-table3.2", "avfr-table3.3", "avfr-table3.4")
"""Left out unless they are named."""


def open_codecs(words: Sequence[str]) -> tuple[list[VideoCodec], list[str]]:
    """Create the codecs that the user names.

    Args:
      words: each `NAME`, all its points, or `NAME:POINT+POINT`; none: every codec but those in `ON_REQUEST`.

    Returns:
      The points, each once, in the order named; and a sentence for each codec that cannot run here.

    Raises:
      ConfigError: an unknown name or point, or no codec that can run.
    """
    codecs: dict[tuple[str, str], VideoCodec] = {}
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
            codecs[name, point] = known[point]
    if not codecs:
        raise ConfigError(f"None of these codecs can run here. {' '.join(missing)}")
    return list(codecs.values()), missing

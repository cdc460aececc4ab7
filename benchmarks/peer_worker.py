"""What the workers share that time another program: seconds of calls, and one line of JSON per request and answer.

Imported under that program's Python, which `benchmarks.peer.PeerProcess` gives this repository's root: the standard
library alone.
"""

import json
import sys
import time
from collections.abc import Callable
from typing import Any


def seconds_of(call: Callable[[], Any], calls: int) -> list[float]:
    """Seconds of each of several calls."""
    seconds = []
    for _ in range(calls):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return seconds


def serve(about: dict[str, Any], answer: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Answer requests from standard input until it closes.

    Args:
      about: printed before the first request: the version of `torch`, and whatever else is worth knowing.
      answer: a request's answer.
    """
    print(json.dumps(about), flush=True)
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), flush=True)

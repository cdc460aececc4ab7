"""Client of the official program in a separate process, by one line of JSON per request and answer."""

import json
import os
import pathlib
import subprocess
from collections.abc import Sequence
from typing import Any

# The settings of `avfr_jax.nn.allocator`, so that neither side has the cost of fresh pages.
TUNED_ALLOCATOR = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "100000000000",
    "MALLOC_TOP_PAD_": "536870912",
}
_ROOT = str(pathlib.Path(__file__).resolve().parents[1])  # for the drivers' import of `benchmarks.peer_worker`


class PeerProcess:
    """A driver script under the peer's Python, idle between requests.

    Attributes:
      version: of its PyTorch.
    """

    def __init__(self, python: str, driver: pathlib.Path, checkout: str, *words: Any) -> None:
        command: Sequence[str] = [python, "-W", "ignore", str(driver), os.path.abspath(checkout), *map(str, words)]
        path = os.pathsep.join(filter(None, [_ROOT, os.environ.get("PYTHONPATH")]))
        environment = {**os.environ, **TUNED_ALLOCATOR, "PYTHONPATH": path}
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        self.version = self._read()["torch"]

    def _read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("the official program ended; its own message is above")
        return json.loads(line)

    def ask(self, **request: Any) -> dict[str, Any]:
        """Send a request and return its answer."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return self._read()

    def close(self) -> None:
        """End the process."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(timeout=60)

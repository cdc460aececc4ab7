"""Run every benchmark that needs the locked packages alone; `make bench`.

Set `AVFR_PEER_FOMM` to a checkout of the official first-order-model program and `AVFR_PEER_PYTHON` to a Python with
PyTorch (and that program's other imports) for the columns that compare with it.
"""

import os
import subprocess
import sys


def main() -> int:
    """Run each benchmark in its own process, with its own memory and thread pools."""
    fomm = ["benchmarks.fomm_inference"]
    if os.environ.get("AVFR_PEER_FOMM"):
        fomm += ["--peer", os.environ["AVFR_PEER_FOMM"]]
        fomm += ["--peer-python", os.environ.get("AVFR_PEER_PYTHON", sys.executable)]
    failed = 0
    for command in (fomm, ["benchmarks.landmark_warp"], ["benchmarks.codec"], ["benchmarks.fuzz_stream"]):
        print(f"## {command[0]}\n", flush=True)
        failed |= subprocess.run([sys.executable, "-m", *command], check=False).returncode != 0
        print(flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())

"""Worker that times the official FOMM program, by one line of JSON per request and answer.

Run by `benchmarks.fomm_inference` with the Python that has PyTorch; imports the official checkout, PyTorch, NumPy and
PyYAML alone. Requests: `{"case": "keypoints" | "animate" | "frame", "batch": n, "compiled": bool, "calls": n}`;
the answer is `{"seconds": [...]}`. Weights are random, as they do not affect the time.
"""

import pathlib
import sys
import warnings
from collections.abc import Callable
from typing import Any

from benchmarks.peer_worker import seconds_of, serve


class Peer:
    """The official keypoint detector and generator, eager and compiled."""

    def __init__(self, checkout: pathlib.Path) -> None:
        sys.path.insert(0, str(checkout))
        import torch
        import yaml
        from modules.generator import OcclusionAwareGenerator
        from modules.keypoint_detector import KPDetector

        self.torch = torch
        settings = yaml.safe_load((checkout / "config" / "vox-adv-256.yaml").read_text())["model_params"]
        generator = OcclusionAwareGenerator(**settings["generator_params"], **settings["common_params"]).eval()
        detector = KPDetector(**settings["kp_detector_params"], **settings["common_params"]).eval()
        self.networks = {False: (detector, generator), True: (torch.compile(detector), torch.compile(generator))}
        self.warm: dict[tuple, Callable[[], Any]] = {}

    def case(self, name: str, batch: int, compiled: bool) -> Callable[[], Any]:
        """The call to time, after two warm-up calls."""
        key = (name, batch, compiled)
        if key not in self.warm:
            detect, generate = self.networks[compiled]
            source, driving = self.torch.rand(2, batch, 3, 256, 256)
            here, there = detect(source), detect(driving)
            calls = {
                "keypoints": lambda: detect(driving),
                "animate": lambda: generate(source, kp_source=here, kp_driving=there),
                "frame": lambda: generate(source, kp_source=here, kp_driving=detect(driving)),
            }
            for _ in range(2):
                calls[name]()
            self.warm[key] = calls[name]
        return self.warm[key]

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Time one case."""
        call = self.case(request["case"], request["batch"], request["compiled"])
        return {"seconds": seconds_of(call, request["calls"])}


def main() -> None:
    """Serve requests from standard input until it closes."""
    warnings.filterwarnings("ignore")
    peer = Peer(pathlib.Path(sys.argv[1]))
    peer.torch.set_num_threads(int(sys.argv[2]))
    about = {"torch": peer.torch.__version__, "threads": peer.torch.get_num_threads()}
    with peer.torch.inference_mode():
        serve(about, peer.answer)


if __name__ == "__main__":
    main()

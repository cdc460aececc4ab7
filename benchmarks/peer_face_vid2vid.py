"""Worker that times the unofficial face-vid2vid program, by one line of JSON per request and answer.

Run by `benchmarks.face_vid2vid_inference` with the Python that has PyTorch; imports that program's checkout, PyTorch,
NumPy and PyYAML alone. Requests: `{"case": NAME, "batch": n, "compiled": bool, "calls": n}`, answered by
`{"seconds": [...]}`, and `{"case": "peak"}`, answered by the process's peak memory in bytes. Weights are random, as
they do not affect the time.
"""

import pathlib
import resource
import sys
import warnings
from collections.abc import Callable
from typing import Any

from benchmarks.peer_worker import seconds_of, serve


class Peer:
    """The unofficial program's networks, eager and compiled."""

    def __init__(self, checkout: pathlib.Path, kind: str) -> None:
        sys.path.insert(0, str(checkout))
        import torch
        import yaml
        from modules.generator import OcclusionAwareGenerator, OcclusionAwareSPADEGenerator
        from modules.keypoint_detector import HEEstimator, KPDetector

        self.torch = torch
        settings = yaml.safe_load((checkout / "config" / "vox-256.yaml").read_text())["model_params"]
        common = settings["common_params"]
        generator = OcclusionAwareSPADEGenerator if kind == "spade" else OcclusionAwareGenerator
        networks = [
            KPDetector(**settings["kp_detector_params"], **common).eval(),
            HEEstimator(**settings["he_estimator_params"], **common).eval(),
            generator(**settings["generator_params"], **common).eval(),
        ]
        self.networks = {False: networks, True: [torch.compile(network) for network in networks]}
        self.parts = networks[2]
        self.keypoints = common["num_kp"]
        self.warm: dict[tuple, Callable[[], Any]] = {}

    def case(self, name: str, batch: int, compiled: bool) -> Callable[[], Any]:
        """The call to time, after two warm-up calls."""
        key = (name, batch, compiled)
        if key not in self.warm:
            call = self.part(name, batch, compiled) if name in ("sampling", "hourglass", "decoder") else None
            call = call or self.whole(name, batch, compiled)
            for _ in range(2):
                call()
            self.warm[key] = call
        return self.warm[key]

    def whole(self, name: str, batch: int, compiled: bool) -> Callable[[], Any]:
        """Networks of a frame; keypoints are given, so that no composition of the caller is timed."""
        detect, estimate, generate = self.networks[compiled]
        source, driving = self.torch.rand(2, batch, 3, 256, 256)
        here, there = ({"value": self.torch.rand(batch, self.keypoints, 3) - 0.5} for _ in range(2))
        calls: dict[str, Callable[[], Any]] = {
            "canonical": lambda: detect(driving),
            "pose": lambda: estimate(driving),
            "generate": lambda: generate(source, kp_source=here, kp_driving=there),
            "frame": lambda: (estimate(driving), generate(source, kp_source=here, kp_driving=there)),
        }
        return calls[name]

    def part(self, name: str, batch: int, compiled: bool) -> Callable[[], Any]:
        """A part of the generator by itself."""
        volume = self.torch.rand(batch, 32, 16, 64, 64)
        grid = self.torch.rand(batch, 16, 64, 64, 3) * 2 - 1
        hourglass = self.parts.dense_motion_network.hourglass
        candidates = self.torch.rand(batch, (self.keypoints + 1) * 5, 16, 64, 64)
        features = self.torch.rand(batch, 256, 64, 64)

        def plain(x: Any) -> Any:
            for block in self.parts.up_blocks:
                x = block(x) if block is not self.parts.up_blocks[0] else block(self.parts.resblocks_2d(x))
            return x

        decode = getattr(self.parts, "decoder", plain)
        programs: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
            "sampling": (lambda v, g: self.torch.nn.functional.grid_sample(v, g, align_corners=False), (volume, grid)),
            "hourglass": (hourglass, (candidates,)),
            "decoder": (decode, (features,)),
        }
        program, arguments = programs[name]
        program = self.torch.compile(program) if compiled else program
        return lambda: program(*arguments)

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Time one case, or report the peak memory."""
        if request["case"] == "peak":
            return {"bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}
        call = self.case(request["case"], request["batch"], request["compiled"])
        return {"seconds": seconds_of(call, request["calls"])}


def main() -> None:
    """Serve requests from standard input until it closes."""
    warnings.filterwarnings("ignore")
    peer = Peer(pathlib.Path(sys.argv[1]), sys.argv[2])
    peer.torch.set_num_threads(int(sys.argv[3]))
    about = {"torch": peer.torch.__version__, "threads": peer.torch.get_num_threads()}
    with peer.torch.inference_mode():
        serve(about, peer.answer)


if __name__ == "__main__":
    main()

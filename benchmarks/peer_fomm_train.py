"""Worker that times the official FOMM program's training step, by one line of JSON per request and answer.

Run by `benchmarks.train_step` with the Python that has PyTorch; imports the official checkout, its own imports,
PyTorch, NumPy and PyYAML alone. A step is that of the checkout's `train.py`: both full models, three optimisers, losses
transferred to the host. VGG19 has random weights: torchvision, which would download trained ones, is replaced by the
same stack of layers. Requests: `{"calls": n}`; the answer is `{"seconds": [...], "peak": GB}`.
"""

import pathlib
import resource
import sys
import types
import warnings
from typing import Any

from benchmarks.peer_worker import seconds_of, serve

# torchvision's configuration "E": channels of each 3 x 3 convolution and its ReLU, 0 for max-pooling.
VGG19 = (64, 64, 0, 128, 128, 0, 256, 256, 256, 256, 0, 512, 512, 512, 512, 0, 512, 512, 512, 512, 0)


def random_vgg19(torch: Any) -> types.ModuleType:
    """Replacement of the module `torchvision` with a VGG19 of random weights."""

    def vgg19(pretrained: bool = False) -> Any:
        layers, channels = [], 3
        for width in VGG19:
            if width:
                layers += [torch.nn.Conv2d(channels, width, 3, padding=1), torch.nn.ReLU(inplace=True)]
                channels = width
            else:
                layers.append(torch.nn.MaxPool2d(2, 2))
        return types.SimpleNamespace(features=torch.nn.Sequential(*layers))

    module = types.ModuleType("torchvision")
    module.models = types.SimpleNamespace(vgg19=vgg19)  # type: ignore[attr-defined]
    return module


class Peer:
    """The official networks, full models and optimisers."""

    def __init__(self, checkout: pathlib.Path, batch: int, device: str, autocast: bool) -> None:
        sys.path.insert(0, str(checkout))
        import torch
        import yaml

        sys.modules["torchvision"] = random_vgg19(torch)
        from modules.discriminator import MultiScaleDiscriminator
        from modules.generator import OcclusionAwareGenerator
        from modules.keypoint_detector import KPDetector
        from modules.model import DiscriminatorFullModel, GeneratorFullModel

        self.torch, self.device, self.autocast = torch, device, autocast
        settings = yaml.safe_load((checkout / "config" / "vox-adv-256.yaml").read_text())
        model, train = settings["model_params"], settings["train_params"]
        common = model["common_params"]
        generator = OcclusionAwareGenerator(**model["generator_params"], **common).to(device)
        detector = KPDetector(**model["kp_detector_params"], **common).to(device)
        discriminator = MultiScaleDiscriminator(**model["discriminator_params"], **common).to(device)
        self.optimisers = {
            name: torch.optim.Adam(network.parameters(), lr=train[f"lr_{name}"], betas=(0.5, 0.999))
            for name, network in (("generator", generator), ("kp_detector", detector), ("discriminator", discriminator))
        }
        self.generator = GeneratorFullModel(detector, generator, discriminator, train)
        self.discriminator = DiscriminatorFullModel(detector, generator, discriminator, train)
        source, driving = torch.rand(2, batch, 3, 256, 256, device=device)
        self.batch = {"source": source, "driving": driving}

    def step(self) -> None:
        """Train on one batch as in `train.py`."""
        kind = self.device.split(":")[0]
        with self.torch.autocast(kind, self.torch.bfloat16, enabled=self.autocast):
            losses, generated = self.generator(self.batch)
            total = sum(value.mean() for value in losses.values())
        total.backward()
        for name in ("generator", "kp_detector"):
            self.optimisers[name].step()
            self.optimisers[name].zero_grad()
        self.optimisers["discriminator"].zero_grad()
        with self.torch.autocast(kind, self.torch.bfloat16, enabled=self.autocast):
            more = self.discriminator(self.batch, generated)
            total = sum(value.mean() for value in more.values())
        total.backward()
        self.optimisers["discriminator"].step()
        self.optimisers["discriminator"].zero_grad()
        for value in (*losses.values(), *more.values()):
            value.mean().detach().cpu().numpy()

    def peak(self) -> float:
        """Peak memory in GB: of the device, or of this process on a CPU."""
        if self.device.startswith("cuda"):
            return self.torch.cuda.max_memory_allocated() / 1e9
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Time some steps."""
        return {"seconds": seconds_of(self.step, request["calls"]), "peak": self.peak()}


def main() -> None:
    """Serve requests from standard input until it closes."""
    warnings.filterwarnings("ignore")
    checkout, threads, batch, device, dtype = sys.argv[1:6]
    peer = Peer(pathlib.Path(checkout), int(batch), device, dtype == "bfloat16")
    peer.torch.set_num_threads(int(threads))
    about = {"torch": peer.torch.__version__, "threads": peer.torch.get_num_threads()}
    serve(about, peer.answer)


if __name__ == "__main__":
    main()

"""Worker that times the official FOMM data loader, by one line of JSON per request and answer.

Run by `benchmarks.input_pipeline` with the Python that has PyTorch; imports the official checkout, PyTorch, NumPy,
PyYAML and the imports of the checkout's `frames_dataset.py` alone. Arguments: the checkout and one folder of clips per
form. Requests: `{"form": name of a folder, "samples": n}`; the answer is `{"cpu": seconds, "wall": seconds}`.
"""

import json
import os
import pathlib
import sys
import time
import warnings
from typing import Any


def processor_seconds() -> float:
    """Processor time of this process and of its finished children (ffmpeg decodes videos)."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


DECLARED: list[Any] = []  # keeps the library, whose declarations end with it


def import_torchvision() -> None:
    """Import torchvision, whose functions on PIL images the data loader needs.

    The package index's wheel is built for PyTorch with CUDA; elsewhere its compiled part does not load, and the import
    fails for lack of two operations of object detection, which are declared here.
    """
    import torch

    try:
        import torchvision
    except RuntimeError:
        for name in [name for name in sys.modules if name.startswith("torchvision")]:
            del sys.modules[name]
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        DECLARED.append(library)
        import torchvision  # noqa: F401


class Peer:
    """The official dataset as its `train.py` uses it, read in this process, a batch at a time."""

    def __init__(self, checkout: pathlib.Path, folders: list[pathlib.Path], batch_size: int) -> None:
        sys.path.insert(0, str(checkout))
        import_torchvision()
        # The checkout passes a NumPy string to `os.listdir`, which current NumPy treats as bytes.
        os.listdir = lambda path=".", listdir=os.listdir: listdir(str(path))
        import yaml
        from frames_dataset import DatasetRepeater, FramesDataset
        from torch.utils.data import DataLoader

        settings = yaml.safe_load((checkout / "config" / "vox-adv-256.yaml").read_text())
        repeats = settings["train_params"]["num_repeats"]
        self.loaders = {}
        for folder in folders:
            params = {**settings["dataset_params"], "root_dir": str(folder)}
            dataset = DatasetRepeater(FramesDataset(is_train=True, **params), repeats)
            self.loaders[folder.name] = iter(
                DataLoader(dataset, batch_size=batch_size, shuffle=True, num_workers=0, drop_last=True)
            )
            next(self.loaders[folder.name])

    def answer(self, request: dict[str, Any]) -> dict[str, float]:
        """Time some samples."""
        loader, count = self.loaders[request["form"]], 0
        cpu, wall = processor_seconds(), time.perf_counter()
        while count < request["samples"]:
            count += len(next(loader)["source"])
        cpu, wall = processor_seconds() - cpu, time.perf_counter() - wall
        return {"cpu": cpu / count, "wall": wall / count}


def main() -> None:
    """Serve requests from standard input until it closes."""
    warnings.filterwarnings("ignore")
    answers, sys.stdout = sys.stdout, sys.stderr  # the checkout prints
    import torch

    torch.set_num_threads(1)
    checkout, batch_size, *folders = sys.argv[1:]
    peer = Peer(pathlib.Path(checkout), [pathlib.Path(folder) for folder in folders], int(batch_size))
    print(json.dumps({"torch": torch.__version__}), file=answers, flush=True)
    for line in sys.stdin:
        print(json.dumps(peer.answer(json.loads(line))), file=answers, flush=True)


if __name__ == "__main__":
    main()

"""A portrait and clips for tests: the public-domain astronaut, moved by affine maps, with a tone."""

import pathlib

import av
import cv2
import numpy as np
from skimage import data


def astronaut(size: int = 256) -> np.ndarray:
    """The astronaut's head and shoulders, uint8 [size, size, 3]."""
    return cv2.resize(data.astronaut()[:300, 80:380], (size, size), interpolation=cv2.INTER_AREA)


def moved(image: np.ndarray, step: float) -> np.ndarray:
    """The picture turned and shifted a little; step 0 leaves it as it is."""
    h, w = image.shape[:2]
    turn = cv2.getRotationMatrix2D((w / 2, h / 2), 6 * np.sin(step / 4), 1 + 0.03 * np.sin(step / 6))
    turn[:, 2] += (6 * np.sin(step / 5), 3 * np.sin(step / 3))
    return cv2.warpAffine(image, turn, (w, h), borderMode=cv2.BORDER_REPLICATE)


def panned(image: np.ndarray, count: int, step: int = 16) -> list[np.ndarray]:
    """The picture, moved as by `moved`, crossing a wide grey one from left to right by `step` pixels a frame."""
    size = len(image)
    wide = np.full((count, size, size + step * (count - 1), 3), 128, np.uint8)
    for i, frame in enumerate(wide):
        frame[:, step * i : step * i + size] = moved(image, i)
    return list(wide)


def write_clip(path: pathlib.Path, frames: list[np.ndarray], sound: bool = True, rate: int = 25) -> pathlib.Path:
    """Frames as H.264, at 25 a second with a 440 Hz tone of the same length."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=rate, options={"crf": "12", "preset": "ultrafast"})
        video.height, video.width = frames[0].shape[:2]
        video.pix_fmt = "yuv420p"
        audio = container.add_stream("aac", rate=16000, layout="mono") if sound else None
        for frame in frames:
            container.mux(video.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
        container.mux(video.encode(None))
        if audio is not None:
            time = np.arange(len(frames) * 640) / 16000
            tone = (0.3 * np.sin(2 * np.pi * 440 * time)).astype(np.float32)[None]
            for start in range(0, tone.shape[1], 1024):
                block = av.AudioFrame.from_ndarray(tone[:, start : start + 1024], format="fltp", layout="mono")
                block.sample_rate, block.pts = 16000, start
                container.mux(audio.encode(block))
            container.mux(audio.encode(None))
    return path

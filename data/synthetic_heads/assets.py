"""The demo's bundled driving clip: `python -m data.synthetic_heads.assets` rewrites `avfr_jax/assets/driver.mp4`."""

import dataclasses
import pathlib

import numpy as np

from data.synthetic_heads.identity import IdentityParams, Scene, sample_identity
from data.synthetic_heads.motion import MotionTrack, sample_motion
from data.synthetic_heads.render import render_clip

FOLDER = pathlib.Path(__file__).parents[2] / "avfr_jax" / "assets"
FRAMES, SIZE, SEED = 125, 256, 7
LIMIT = 600_000  # bytes


def driver_identity() -> IdentityParams:
    """Person of the demo's driving clip."""
    return dataclasses.replace(
        sample_identity(SEED), cloth="crew", pattern="knit", cloth_colour=(0.18, 0.36, 0.42), bangs=0.0, freckles=0.2
    )


def driver_motion() -> MotionTrack:
    """Clear turns to both sides and a nod over the sampled sway, with speech and blinks.

    The first frame faces the camera with a closed mouth, as the start of relative motion.
    """
    track = sample_motion(SEED, FRAMES, amplitude=0.25)
    time = np.arange(FRAMES) / 25.0
    ease = np.clip(time / 0.6, 0.0, 1.0)
    ease = ease * ease * (3 - 2 * ease)
    yaw = 24.0 * np.sin(2 * np.pi * time / 4.2) * ease + (track.yaw - track.yaw[0]) * ease
    nod = 7.0 * np.sin(2 * np.pi * time / 2.6) * ease + (track.pitch - track.pitch[0]) * ease
    pitch = nod - 6.0
    roll = 5.0 * np.sin(2 * np.pi * time / 3.4) * ease + (track.roll - track.roll[0]) * ease
    changed = {"yaw": yaw, "pitch": pitch, "roll": roll, "jaw": track.jaw * ease}
    changed |= {"voicing": track.voicing * ease, "blink": track.blink * ease[:, None]}
    changed |= {"smile": track.smile * 0.6 * ease, "brow": track.brow * ease, "lip_width": track.lip_width * ease}
    changed |= {"translation": (track.translation - track.translation[0]) * ease[:, None]}
    changed |= {"gaze": np.stack([-0.3 * yaw, -0.3 * nod], -1)}
    return dataclasses.replace(track, **{k: np.asarray(v, np.float32) for k, v in changed.items()})


def driver_scene() -> Scene:
    return Scene(seed=SEED, background="studio", background_colour=(0.42, 0.47, 0.52), noise=0.003, rim=0.35)


def main() -> None:
    from data.synthetic_heads.files import write_video

    clip = render_clip(driver_identity(), driver_motion(), driver_scene(), size=SIZE)
    path = FOLDER / "driver.mp4"
    write_video(path, clip.frames, clip.audio, crf=23)
    size = path.stat().st_size
    if size > LIMIT:
        raise SystemExit(f"{path} has {size} bytes, more than {LIMIT}: raise crf")
    print(f"{path}: {size} bytes")


if __name__ == "__main__":
    main()

"""Rendered talking heads: photographic skin on a 3-D face mesh, with voice and exact ground truth.

`render_clip(seed)` returns frames, sound, landmarks, pose, masks and optical flow, a pure function of the seed;
`iter_clip` streams. Skin relief comes from scikit-image's `astronaut()` (NASA, public domain);
`render_photo_clip` animates that photograph itself.
"""

from typing import TYPE_CHECKING

from avfr_jax.packages import lazy_names

if TYPE_CHECKING:
    from data.synthetic_heads.identity import IdentityParams, Scene, astronaut_identity, sample_identity, sample_scene
    from data.synthetic_heads.motion import MotionTrack, sample_motion, still_motion
    from data.synthetic_heads.photo import PhotoRenderer, render_photo_clip, sample_photo_motion
    from data.synthetic_heads.render import Renderer, SyntheticClip, SyntheticFrame, iter_clip, render_clip

__all__ = [
    "IdentityParams",
    "MotionTrack",
    "PhotoRenderer",
    "Renderer",
    "Scene",
    "SyntheticClip",
    "SyntheticFrame",
    "astronaut_identity",
    "iter_clip",
    "render_clip",
    "render_photo_clip",
    "sample_identity",
    "sample_motion",
    "sample_photo_motion",
    "sample_scene",
    "still_motion",
]

# The program of this package begins with nothing else imported.
__getattr__ = lazy_names(
    __name__,
    {
        "identity": ("IdentityParams", "Scene", "astronaut_identity", "sample_identity", "sample_scene"),
        "motion": ("MotionTrack", "sample_motion", "still_motion"),
        "photo": ("PhotoRenderer", "render_photo_clip", "sample_photo_motion"),
        "render": ("Renderer", "SyntheticClip", "SyntheticFrame", "iter_clip", "render_clip"),
    },
)

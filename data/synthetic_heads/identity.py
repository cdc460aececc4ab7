"""Person and scene parameters, sampled from a seed."""

import dataclasses

import numpy as np

RGB = tuple[float, float, float]
Real = float | int  # run-time type checkers do not take an int for a float

HAIR_STYLES = ("shaved", "short", "crop", "bob", "long", "curly", "bun", "receding")
CLOTHES = ("crew", "v-neck", "shirt", "turtleneck", "hoodie")
PATTERNS = ("plain", "stripes", "plaid", "knit", "suit")
BACKGROUNDS = ("studio", "gradient", "bokeh", "room", "window", "foliage", "wall")

# sRGB skin tones from light to dark (spread over the Monk scale's range).
_SKIN = np.array(
    [(242, 212, 192), (232, 190, 164), (222, 174, 140), (203, 152, 116), (176, 124, 90), (141, 96, 68), (104, 70, 52)]
)
_HAIR = {
    "black": (30, 26, 26),
    "dark brown": (58, 40, 30),
    "brown": (96, 66, 44),
    "light brown": (138, 102, 66),
    "blond": (192, 156, 98),
    "red": (142, 70, 36),
    "grey": (150, 148, 146),
    "white": (212, 208, 202),
}
_EYES = ((70, 44, 28), (98, 62, 34), (116, 92, 52), (92, 112, 70), (96, 124, 146), (118, 140, 158), (44, 28, 20))


@dataclasses.dataclass(frozen=True)
class IdentityParams:
    """One person. Shape parameters are in units of one standard deviation (0 = the portrait's own shape);
    colours are sRGB in [0, 1]; `seed` determines the noise (strands, pores, moles, asymmetry)."""

    seed: int
    name: str = "sampled"
    skin: RGB = (0.87, 0.70, 0.58)
    lips: RGB = (0.74, 0.42, 0.40)
    hair: RGB = (0.50, 0.40, 0.25)
    eyes: RGB = (0.38, 0.25, 0.14)
    hair_style: str = "short"
    hair_volume: float = 1.0  # 0.6 .. 1.5
    curl: float = 0.2  # 0 straight .. 1 curly
    parting: float = 0.3  # -1 .. 1, where the strands start
    bangs: float = 0.0  # 0 none .. 1 down to the brows
    face_width: float = 0.0
    jaw_width: float = 0.0
    chin_length: float = 0.0
    cheekbones: float = 0.0
    nose_width: float = 0.0
    nose_length: float = 0.0
    lip_fullness: float = 0.0
    mouth_width: float = 0.0
    eye_size: float = 0.0
    eye_spacing: float = 0.0
    brow_height: float = 0.0
    forehead: float = 0.0
    brow_thickness: float = 0.5  # 0 thin .. 1 bushy
    photo_detail: float = 0.8  # share of the portrait's skin relief
    age: float = 0.3  # 0 smooth .. 1 lined
    freckles: float = 0.0
    blush: float = 0.3
    stubble: float = 0.0  # 0 none .. 1 dark shadow
    beard: float = 0.0  # 0 none .. 1 full, as fur
    lashes: float = 0.5
    glasses: bool = False
    cloth: str = "crew"
    pattern: str = "plain"
    cloth_colour: RGB = (0.25, 0.32, 0.45)
    cloth_second: RGB = (0.8, 0.8, 0.78)
    voice_pitch: float = 140.0  # Hz
    vocal_tract: float = 1.0  # scale of the formants, about 0.9 (long tract) .. 1.18 (short)


@dataclasses.dataclass(frozen=True)
class Scene:
    """Background, light and camera. Angles in degrees, distances in cm, light colours linear RGB."""

    seed: int
    background: str = "studio"
    background_colour: RGB = (0.45, 0.48, 0.52)
    light_azimuth: float = -35.0  # > 0: from the viewer's right
    light_elevation: float = 35.0
    key: float = 0.85
    fill: float = 0.3
    rim: float = 0.2
    ambient: float = 0.38
    warmth: float = 0.0  # -1 cool .. 1 warm
    distance: float = 75.0
    span: float = 29.0  # cm of the subject's plane that fit into the frame
    noise: float = 0.008  # standard deviation of the sensor's noise, of 1
    blur: float = 0.35  # standard deviation of the lens blur in pixels at 256


def _colour(values: np.ndarray, rng: np.random.Generator, spread: float) -> RGB:
    jitter = values / 255.0 * (1.0 + rng.normal(0.0, spread, 3) * 0.5 + rng.normal(0.0, spread))
    red, green, blue = np.clip(jitter, 0.02, 0.98)
    return float(red), float(green), float(blue)


def _choice(rng: np.random.Generator, options: tuple[str, ...], weights: list[float] | None = None) -> str:
    p = None if weights is None else np.asarray(weights) / np.sum(weights)
    return options[int(rng.choice(len(options), p=p))]


def sample_identity(seed: int) -> IdentityParams:
    """Sample a person; a pure function of the seed."""
    rng = np.random.default_rng([seed, 1])
    masculine = bool(rng.random() < 0.5)
    tone = rng.uniform(0.0, len(_SKIN) - 1.001)
    low = int(tone)
    skin = _colour(_SKIN[low] * (1 - tone + low) + _SKIN[low + 1] * (tone - low), rng, 0.02)
    darkness = tone / (len(_SKIN) - 1)
    age = float(np.clip(rng.beta(1.6, 2.4), 0.0, 1.0))
    natural = [0.15 + darkness * 2, 0.5, 0.45, 0.3, 0.3, 0.14, 0.0, 0.0]
    if darkness > 0.55:
        natural = [1.0, 0.25, 0.03, 0.0, 0.02, 0.0, 0.0, 0.0]
    natural[6], natural[7] = 0.5 * max(0.0, age - 0.35), 0.5 * max(0.0, age - 0.55)
    hair = _colour(np.array(_HAIR[_choice(rng, tuple(_HAIR), natural)]), rng, 0.06)
    styles = [0.7, 2.0, 1.6, 0.15, 0.25, 0.8, 0.1, 0.9 * age] if masculine else [0.1, 0.8, 0.4, 2.0, 2.2, 1.1, 1.0, 0.0]
    style = _choice(rng, HAIR_STYLES, styles)
    eye_weights = np.array([3, 3, 1.5, 1, 1, 1, 1.0]) if darkness < 0.5 else np.array([2, 1, 0.1, 0.05, 0.02, 0.02, 3])
    eyes = _colour(np.array(_EYES[int(rng.choice(len(_EYES), p=eye_weights / eye_weights.sum()))]), rng, 0.05)
    redness = rng.uniform(0.25, 0.75) if not masculine else rng.uniform(0.1, 0.4)
    lips = np.array(skin) * (1 - redness) * [0.92, 0.76, 0.76] + redness * np.array([0.70, 0.30, 0.30]) * (
        1.0 - 0.45 * darkness
    )
    clothing = np.array([rng.uniform(20, 230)] * 3) * rng.uniform(0.55, 1.1, 3)
    n = rng.normal
    return IdentityParams(
        seed=seed,
        name=f"sampled-{seed}",
        skin=skin,
        lips=(float(lips[0]), float(lips[1]), float(lips[2])),
        hair=hair,
        eyes=eyes,
        hair_style=style,
        hair_volume=float(rng.uniform(0.7, 1.4)),
        curl=float(np.clip(rng.beta(1.2, 2.0) + (0.5 if style == "curly" else 0.0), 0, 1)),
        parting=float(rng.uniform(-1, 1)),
        bangs=float(rng.uniform(0.25, 0.8)) if rng.random() < (0.2 if masculine else 0.45) else 0.0,
        face_width=float(n(0.3 if masculine else -0.1)),
        jaw_width=float(n(0.8 if masculine else -0.4, 0.8)),
        chin_length=float(n(0.4 if masculine else -0.2, 0.8)),
        cheekbones=float(n(0, 0.8)),
        nose_width=float(n(0.7 * darkness + (0.2 if masculine else -0.3), 0.8)),
        nose_length=float(n(0.3 if masculine else -0.1, 0.8)),
        lip_fullness=float(n(1.3 * darkness + (-0.6 if masculine else 0.3), 0.7)),
        mouth_width=float(n(0, 0.8)),
        eye_size=float(n(-0.3 if masculine else 0.4, 0.7)),
        eye_spacing=float(n(0, 0.7)),
        brow_height=float(n(-0.5 if masculine else 0.4, 0.7)),
        forehead=float(n(0, 0.8)),
        brow_thickness=float(np.clip(n(0.7 if masculine else 0.35, 0.18), 0.1, 1.0)),
        photo_detail=float(rng.uniform(0.45, 0.95)),
        age=age,
        freckles=float(rng.uniform(0.2, 1.0)) if rng.random() < 0.3 * (1 - darkness) else 0.0,
        blush=float(rng.uniform(0.1, 0.7)),
        stubble=float(rng.uniform(0.2, 0.9)) if masculine and rng.random() < 0.6 else 0.0,
        beard=float(rng.uniform(0.4, 1.0)) if masculine and rng.random() < 0.25 else 0.0,
        lashes=float(rng.uniform(0.2, 0.5) if masculine else rng.uniform(0.4, 1.0)),
        glasses=bool(rng.random() < 0.2),
        cloth=_choice(rng, CLOTHES),
        pattern=_choice(rng, PATTERNS),
        cloth_colour=_colour(clothing, rng, 0.05),
        cloth_second=_colour(rng.uniform(30, 230, 3), rng, 0.05),
        voice_pitch=float(rng.uniform(90, 135) if masculine else rng.uniform(165, 235)),
        vocal_tract=float(rng.uniform(0.92, 1.03) if masculine else rng.uniform(1.05, 1.18)),
    )


def astronaut_identity() -> IdentityParams:
    """The portrait's own person: her skin relief at full strength, brown eyes, short light-brown hair."""
    return IdentityParams(
        seed=0,
        name="astronaut",
        photo_detail=1.0,
        hair=(0.47, 0.36, 0.21),
        hair_style="short",
        hair_volume=1.5,
        curl=0.3,
        bangs=0.6,
        brow_thickness=0.25,
        lips=(0.78, 0.46, 0.45),
        cloth="turtleneck",
        cloth_colour=(0.82, 0.36, 0.20),
        voice_pitch=195.0,
        vocal_tract=1.1,
    )


def sample_scene(seed: int) -> Scene:
    """Sample background, light and camera."""
    rng = np.random.default_rng([seed, 2])
    side = rng.choice([-1.0, 1.0])
    return Scene(
        seed=seed,
        background=_choice(rng, BACKGROUNDS),
        background_colour=_colour(rng.uniform(40, 220) * rng.uniform(0.75, 1.1, 3), rng, 0.04),
        light_azimuth=float(side * rng.uniform(5, 60)),
        light_elevation=float(rng.uniform(15, 50)),
        key=float(rng.uniform(0.6, 1.05)),
        fill=float(rng.uniform(0.12, 0.4)),
        rim=float(rng.uniform(0.0, 0.6)),
        ambient=float(rng.uniform(0.28, 0.48)),
        warmth=float(rng.normal(0, 0.5)),
        distance=float(rng.uniform(60, 100)),
        span=float(rng.uniform(26, 34)),
        noise=float(rng.uniform(0.003, 0.012)),
        blur=float(rng.uniform(0.2, 0.6)),
    )

"""Every command in README, documentation and `--help` parses as it stands there; quick ones run, on stand-in files.

A new command comes into `RUN`, or into `NOT_RUN` with the reason.
"""

import argparse
import importlib
import importlib.util
import os
import pathlib
import re
import shlex
import shutil
from unittest import mock

import pytest
from PIL import Image

import benchmarks
import data
import experiments
from avfr_jax.cli.main import main as avfr
from avfr_jax.media.audio import read_audio, write_wav
from experiments.experiment import Experiment, check
from experiments.settings import load_config, override, parse_overrides
from tests.media_fixtures import astronaut, moved, write_clip

ROOT = pathlib.Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("**/*.md"))]
FIGURES = [ROOT / "benchmarks/RESULTS.md", *sorted((ROOT / "avfr_jax/assets/models").glob("*/README.md"))]
BLOCK = re.compile(r"^```[a-z]*\n(.*?)^```", re.M | re.S)
# The start of a command in a line of a block; a shell's words may come before it.
START = re.compile(r"(?:^|\s)(avfr [a-z]|(?:\S*/)?python -m (?:experiments|data|benchmarks)\b)")
NO_COMMAND = re.compile(r"^#|[…\[]|COMMAND|--\S+ (?:N|BITS)\b")
OPTIONS_OF_A_CONFIG = {"experiments.compile_check", "experiments.ablation"}  # beside their own


class CapturedError(Exception):
    pass


def parser_of(main, *words):
    """The parser whose help `main([*words, "--help"])` would print."""

    def print_help(parser, file=None):
        raise CapturedError(parser)

    with mock.patch.object(argparse.ArgumentParser, "print_help", print_help), pytest.raises(CapturedError) as caught:
        main([*words, "--help"])
    return caught.value.args[0]


def programs(package):
    """Modules of a package that are run by `python -m`, with a parser of their own, by name."""
    found = {}
    for path in sorted(pathlib.Path(package.__file__).parent.rglob("*.py")):
        text = path.read_text()
        if "ArgumentParser(" in text and re.search(r"^def main\(arg(v|uments):", text, re.M):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            found[name.removesuffix(".__main__")] = importlib.import_module(name)
    return found


PROGRAMS = {name: module for package in (experiments, data, benchmarks) for name, module in programs(package).items()}
PARSERS = {name: parser_of(module.main) for name, module in PROGRAMS.items()}
COMMANDS = next(a for a in parser_of(avfr)._actions if isinstance(a, argparse._SubParsersAction)).choices
PARSERS |= {f"avfr {name}": parser_of(avfr, name) for name in COMMANDS}


def commands(text):
    """The words of every command in lines of a shell."""
    folded = re.sub(r"\n\s+(?=--)", " ", text.replace("\\\n", " "))  # as in a shell, and as in YAML
    for line in folded.splitlines():
        start = START.search(line.split(" #")[0])
        if start is None or NO_COMMAND.search(line):
            continue
        words = shlex.shlex(line[start.start(1) :].strip().rstrip("'"), posix=True, punctuation_chars=";|&>()")
        words.whitespace_split, words.commenters = True, "#"
        taken = []
        for word in words:
            if word and set(word) <= set(";|&>()"):
                break
            taken.append(word)
        yield taken


def indented(text):
    """Lines of a help, a docstring or a page that are code by their indentation."""
    return "\n".join(line.strip() if line.startswith("  ") else "" for line in text.replace("\\\n", " ").splitlines())


def documented():
    """The words of all commands, by the command."""
    texts = [block for page in PAGES for block in BLOCK.findall(page.read_text())]
    texts += [indented(page.read_text()) for page in FIGURES]
    texts += [indented(parser.epilog or "") for parser in PARSERS.values()]
    texts += [indented(module.__doc__) for module in PROGRAMS.values()]
    texts += [indented(parser_of(avfr).epilog)]
    return {shlex.join(words): words for text in texts for words in commands(text)}


DOCUMENTED = documented()


def program_of(words):
    """Name in `PARSERS`, and arguments."""
    return (" ".join(words[:2]), words[2:]) if words[0] == "avfr" else (words[2], words[3:])


@pytest.mark.parametrize("command", DOCUMENTED)
def test_command_parses(command):
    name, arguments = program_of(DOCUMENTED[command])
    options, rest = PARSERS[name].parse_known_args(arguments)
    if name == "experiments.train" or name in OPTIONS_OF_A_CONFIG:
        check(override(load_config(options.config, Experiment), parse_overrides(rest)))
    else:
        assert not rest


def test_options_in_running_text_exist():
    """`avfr encode --call` in a sentence: not a whole command, but its options are the program's."""
    for page in (*PAGES, *FIGURES):
        for span in re.findall(r"`([^`\n]+)`", BLOCK.sub("", page.read_text())):
            for words in commands(re.sub(r"\[|\]", " ", span)):
                name, arguments = program_of(words)
                if name in PARSERS and name != "experiments.train":
                    unknown = {w for w in arguments if w.startswith("--")} - set(PARSERS[name]._option_string_actions)
                    assert not unknown, f"{page.name}: {span}"


def test_targets_of_make_exist():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    for page in PAGES:
        named = re.findall(r"(?:^|`)make ([a-z-]+)", page.read_text(), re.M)
        assert set(named) <= targets, page.name


def test_every_program_has_an_example():
    without = [name for name, parser in PARSERS.items() if "example" not in (parser.epilog or "")]
    assert not [name for name in without if not name.startswith("benchmarks.")]


# --- running ----------------------------------------------------------------------------------------------------------

WARP = "--model landmark-warp"  # nothing to load, little to compile
HEADS = "--clips 1 --seconds 0.08 --size 64 --workers 1"
RUN = {
    "avfr reenact --source me.jpg --driving talk.mp4 --output out.mp4 --rotate -15,0,0": WARP,
    "avfr frontalize me.jpg front.png": WARP,
    "avfr frontalize me.jpg front.mp4 --driving talk.mp4": WARP,
    "avfr orbit me.jpg orbit.mp4 --driving talk.mp4 --degrees 15": WARP,
    "avfr reenact --source me.jpg --driving talk.mp4 --output out.mp4": WARP,
    "avfr reenact --source me.jpg --driving talk.mp4 --output out.mp4 --compare": WARP,
    "avfr reenact --source me.jpg --driving talk.avfr --output out.mp4": WARP,
    "avfr reenact --source me.jpg --driving talk.mp4 --audio other-voice.wav --output out.mp4": WARP,
    "avfr reenact --source me.jpg --audio speech.wav --output talk.mp4": WARP,
    "avfr reenact --model vox-adv --source me.jpg --driving talk.mp4 --output out.mp4": "",
    "avfr encode talk.mp4 talk.avfr": "",
    "avfr encode talk.mp4 talk.avfr --call": "",
    "avfr encode talk.mp4 call.avfr --call": "",
    "avfr encode talk.mp4 talk.avfr --template": "",
    "avfr encode talk.mp4 talk.avfr --step 10 --pivot-quality 60 --audio none": "",
    "avfr encode talk.mp4 talk.avfr --call --bitrate 2000": "",
    "avfr encode talk.mp4 talk.avfr --faithful": "",
    "avfr decode talk.avfr talk.mp4": "",
    "avfr decode talk.avfr talk.mp4 --size 512 --super-resolver bicubic": "",
    "avfr decode call.avfr call.mp4 --loss 0.1 --jitter 40ms --burst 3-5": "",
    "avfr decode talk.avfr talk.mp4 --interpolate pictures": "",
    "avfr inspect talk.avfr --plot bytes.png": "",
    "avfr inspect out.mp4": "",
    "avfr import fomm vox-adv-cpk.pth.tar '~/.cache/avfr-jax/models/vox-adv'": "--config vox-adv-256.yaml",
    "avfr import fomm vox-adv-cpk.pth.tar ./vox-adv --config vox-adv-256.yaml": "",
    "avfr import mediapipe-nets": "",
    "avfr models --json": "",
    "avfr doctor": "",
    "python -m experiments.fit_openings mouth_opening.csv": "",
    "python -m data.synthetic_heads OUT --clips 10 --seconds 4": HEADS,
    "python -m data.synthetic_heads heads --clips 10 --seconds 4 --workers 2": HEADS,
    "python -m data.clip_folder '~/videos' clips": "--min-frames 2",
    "python -m data.clip_folder '~/videos' '~/clips'": "--min-frames 2",
}


_WEIGHTS = "needs published weights or a trained model"
_CLIPS = "takes more than ten seconds; run by "
_TRAINS = "trains for hours on prepared clips; networks of the family are trained by "
_PAST = "a measurement of the past"
NOT_RUN = {
    "avfr demo": _CLIPS + "make demo and tests/install/run.sh",
    "avfr demo --output demo": _CLIPS + "make demo and tests/install/run.sh",
    "avfr decode talk.avfr talk.mp4 --size 512": _CLIPS + "tests/codec/test_upscaling.py",
    "avfr decode talk.avfr talk.mp4 --model runs/mine/model": _WEIGHTS,
    "avfr decode talk.avfr talk.mp4 --rotate 15,0,0": "tests/cli/test_codec.py",
    "avfr orbit me.jpg orbit.mp4": "tests/cli/test_cli.py",
    "avfr decode talk.avfr talk.mp4 --interpolate pictures --interpolator runs/between/model": _WEIGHTS,
    "avfr encode talk.mp4 talk.avfr --faithful --residual-codec residual256": _CLIPS
    + "tests/codec/test_residual_coding.py",
    "avfr encode CLIP OUT.avfr --crop none --audio none --faithful --residual-codec residual256": _PAST,
    "avfr explain me.jpg talk.mp4 why.png": _CLIPS + "tests/reenact/test_audio.py",
    "avfr explain me.jpg talk.mp4 why.png --at 40": _CLIPS + "tests/reenact/test_audio.py",
    "avfr explain me.jpg talk.mp4 why.png --model runs/avfr/model": _WEIGHTS,
    "avfr import alexnet alexnet-owt-7be5be79.pth": _WEIGHTS,
    "avfr import face-vgg vgg_face_dag.pth": _WEIGHTS,
    "avfr import face-vid2vid vox-256.pth.tar ./free-view": "tests/convert/test_face_vid2vid.py",
    "avfr import face-vid2vid vox-256.pth.tar '~/.cache/avfr-jax/models/free-view'": (
        "tests/convert/test_face_vid2vid.py"
    ),
    "avfr import hopenet hopenet_robust_alpha1.pkl": _WEIGHTS,
    "avfr import lpips alex.pth": _WEIGHTS,
    "avfr import vgg19 vgg19-dcbb9e9d.pth": _WEIGHTS,
    "avfr import face-recognition vladmandic-face-api-1.7.15.tgz": _WEIGHTS,
    "avfr import landmarks68 vladmandic-face-api-1.7.15.tgz": _WEIGHTS,
    "avfr reenact --source me.jpg --driving - --output out.mp4": "tests/media/test_pipes.py",
    "avfr reenact --model ./vox-adv --source me.jpg --driving talk.mp4 --output out.mp4": "as with a model's name",
    "avfr reenact --model runs/avfr/model --source me.jpg --driving talk.mp4 --output out.mp4 --audio dubbed.wav": (
        _WEIGHTS
    ),
    "avfr reenact --model runs/mine/model --source me.jpg --driving talk.mp4 --output out.mp4": _WEIGHTS,
    "python -m data.clip_folder '~/videos' '~/clips' --storage arrayrecord --workers 16 --identities people.csv": (
        "starts 16 processes; the options are tested by tests/data/clip_folder"
    ),
}
# Every command of a program, or of a program with a config.
NOT_RUN_AT_ALL = {
    "benchmarks": "measures speed for minutes",
    "data.prepare": "needs a published dataset; tests/data/voxceleb",
    "experiments.ablation": "five trainings; tests/experiments/test_ablation.py",
    "experiments.canonical_recognition": "needs a trained model; tests/experiments/test_free_view.py",
    "experiments.compile_check": "compiles for TPUs for minutes, with libtpu; tests/experiments/test_compile_check.py",
    "experiments.evaluate": _CLIPS + "tests/experiments/test_evaluate.py",
    "experiments.fit_face68": "fits to clips of many people; tests/experiments/test_fit_face68.py",
    "experiments.fit_mesh_motion": "fits to prepared clips; tests/experiments/test_fit_mesh_motion.py",
    "experiments.fit_spoken_mouth": "fits to minutes of speech; tests/faces/test_spoken_mouth.py",
    "experiments.head_rates": "measures on prepared clips; tests/experiments/test_head_rates.py",
    "experiments.frontalisation": _CLIPS + "tests/experiments/test_free_view.py",
    "experiments.motion_rates": "measures on prepared clips; tests/experiments/test_motion_rates.py",
    "experiments.packet_loss": _CLIPS + "tests/experiments/test_packet_loss.py",
    "experiments.pose_accuracy": _CLIPS + "tests/experiments/test_pose_accuracy.py",
    "experiments.rate_distortion": _CLIPS + "tests/experiments/test_rate_distortion.py",
    "experiments.rotation": _CLIPS + "tests/experiments/test_free_view.py",
    "experiments.train --config avfr128": _TRAINS + "tests/experiments/test_avfr_training.py",
    "experiments.train --config fomm_vox256": _TRAINS + "tests/experiments/test_experiment.py",
    "experiments.train --config fomm_vox_adv256": _TRAINS + "tests/experiments/test_experiment.py",
    "experiments.train --config interpolation128": _TRAINS + "tests/experiments/test_codec_networks.py",
    "experiments.train --config residual256": _TRAINS + "tests/experiments/test_codec_networks.py",
    "experiments.train --config super_resolution64": _TRAINS + "tests/experiments/test_codec_networks.py",
    "experiments.train --config tiny": "two minutes; with smaller networks tests/experiments/test_experiment.py",
}


def test_every_command_is_run_or_says_why_not():
    whole = re.compile(rf"python -m ({'|'.join(map(re.escape, NOT_RUN_AT_ALL))})\b")
    assert {c for c in DOCUMENTED if not whole.search(c)} == {*RUN, *NOT_RUN}


@pytest.fixture(scope="module")
def stand_ins(tmp_path_factory):
    """A folder with a file for every input that the commands of `RUN` name."""
    import matplotlib.font_manager  # noqa: F401 - reads the list of fonts from the real home folder

    folder, golden = tmp_path_factory.mktemp("files"), ROOT / "tests" / "golden"
    Image.fromarray(astronaut()).save(folder / "me.jpg")
    clip = write_clip(folder / "talk.mp4", [moved(astronaut(), i) for i in range(6)])
    for name in ("speech.wav", "other-voice.wav"):
        write_wav(folder / name, read_audio(clip))
    (folder / "home" / "videos").mkdir(parents=True)
    shutil.copy(clip, folder / "home" / "videos")
    shutil.copy(golden / "fomm_tiny.pth.tar", folder / "vox-adv-cpk.pth.tar")
    shutil.copy(golden / "fomm_tiny.yaml", folder / "vox-adv-256.yaml")
    models = folder / "home" / ".cache" / "avfr-jax" / "models"
    yaml = str(folder / "vox-adv-256.yaml")
    for words in (
        ["encode", str(clip), str(folder / "talk.avfr")],
        ["encode", str(clip), str(folder / "call.avfr"), "--call"],
        ["import", "fomm", str(folder / "vox-adv-cpk.pth.tar"), str(models / "vox-adv"), "--config", yaml],
    ):
        assert avfr(words) == 0
    shutil.copy(clip, folder / "out.mp4")
    return folder


def outputs(words):
    """Files and folders that the command makes, which must not be there yet."""
    name, arguments = program_of(words)
    if name == "avfr reenact":
        return [arguments[arguments.index("--output") + 1]]
    if name == "avfr import":
        return [os.path.expanduser(w) for w in arguments[2:3]]
    second = ("avfr encode", "avfr decode", "avfr frontalize", "avfr orbit", "data.clip_folder")
    return arguments[1:2] if name in second else []


@pytest.mark.parametrize("command", RUN)
def test_command_runs(command, stand_ins, tmp_path, monkeypatch):
    place = tmp_path / "place"
    shutil.copytree(stand_ins, place, copy_function=os.link)  # the commands replace files, and write into none
    monkeypatch.chdir(place)
    monkeypatch.setenv("HOME", str(place / "home"))
    monkeypatch.delenv("AVFR_HOME", raising=False)
    words = shlex.split(command)
    for name in outputs(words):
        path = pathlib.Path(name).expanduser()
        (shutil.rmtree if path.is_dir() else path.unlink)(path) if path.exists() else None
    name, arguments = program_of([*words, *shlex.split(RUN[command])])
    arguments = [os.path.expanduser(word) for word in arguments]
    assert (avfr([words[1], *arguments]) if words[0] == "avfr" else PROGRAMS[name].main(arguments)) == 0

"""Every command in README, documentation and `--help` parses as it stands there."""

import argparse
import importlib
import importlib.util
import pathlib
import re
import shlex
from unittest import mock

import pytest

import benchmarks
import data
import experiments
from avfr_jax.cli.main import main as avfr
from experiments.experiment import Experiment, check
from experiments.settings import load_config, override, parse_overrides

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

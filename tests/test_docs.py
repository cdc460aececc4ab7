"""Command lines in README and documentation parse; local links of the README lead somewhere."""

import argparse
import importlib
import importlib.util
import pathlib
import re
import shlex
from unittest import mock

import pytest

from avfr_jax.cli.main import _parser
from experiments import train

ROOT = pathlib.Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("**/*.md"))]
BLOCK = re.compile(r"^```[a-z]*\n(.*?)^```", re.M | re.S)


def command_lines(page):
    for block in BLOCK.findall(page.read_text()):
        for line in block.replace("\\\n", " ").splitlines():
            if line.startswith(("avfr ", "python -m ")) and "…" not in line:
                yield shlex.split(line, comments=True)


LINES = {shlex.join(words): words for page in PAGES for words in command_lines(page)}


class CapturedError(Exception):
    pass


def parser_of(module):
    """The parser that a program's `main` makes."""

    def print_help(parser, file=None):
        raise CapturedError(parser)

    with mock.patch.object(argparse.ArgumentParser, "print_help", print_help), pytest.raises(CapturedError) as caught:
        module.main(["--help"])
    return caught.value.args[0]


@pytest.mark.parametrize("words", LINES.values(), ids=LINES)
def test_command_line_parses(words):
    if words[0] == "avfr":
        _parser(words[1:]).parse_args(words[1:])
        return
    name, arguments = words[2], words[3:]
    if name == "experiments.train":
        assert train.main([*arguments, "--show"]) == 0
        return
    package = importlib.util.find_spec(name).submodule_search_locations
    parser = parser_of(importlib.import_module(f"{name}.__main__" if package else name))
    _, rest = parser.parse_known_args(arguments)
    assert name == "experiments.compile_check" or not rest  # which takes the settings of an experiment too


@pytest.mark.parametrize("page", PAGES[:2], ids=lambda page: page.name)
def test_local_links_exist(page):
    links = re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text())
    assert not [link for link in links if not (page.parent / link).exists()]

"""Reference of the command line from the argparse parsers.

    ```{commands} avfr
    ```

lists every command of `avfr`; `{commands} experiments data` every program of these packages (`python -m NAME`).
"""

import argparse
import contextlib
import importlib
import io
import os
import pathlib
import re
from typing import Any
from unittest import mock

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

_ROOT = pathlib.Path(__file__).resolve().parents[2]


class _Captured(BaseException):
    """Carries a parser out of the program that made it."""


def _capture(main: Any, *words: str) -> argparse.ArgumentParser:
    """The parser whose help `main([*words, "--help"])` would print."""

    def print_help(parser: argparse.ArgumentParser, file: Any = None) -> None:
        raise _Captured(parser)

    with mock.patch.object(argparse.ArgumentParser, "print_help", print_help):
        try:
            main([*words, "--help"])
        except _Captured as captured:
            return captured.args[0]
    raise RuntimeError(f"{main} has no --help")


def _avfr() -> list[argparse.ArgumentParser]:
    from avfr_jax.cli.main import main

    top = _capture(main)
    (commands,) = (a for a in top._actions if isinstance(a, argparse._SubParsersAction))
    return [_capture(main, name) for name in commands.choices]


def _programs(package: str) -> list[argparse.ArgumentParser]:
    """Parsers of the modules of a package that make one."""
    out = []
    for path in sorted((_ROOT / package).rglob("*.py")):
        text = path.read_text()
        if "ArgumentParser(" not in text or not re.search(r"^def main\(arg(v|uments):", text, re.M):
            continue
        name = ".".join(path.relative_to(_ROOT).with_suffix("").parts)
        parser = _capture(importlib.import_module(name).main)
        parser.prog = f"python -m {name.removesuffix('.__main__')}"
        out.append(parser)
    return out


class Commands(SphinxDirective):
    """A section for each command."""

    required_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        """Sections with usage, options and the examples of the help's end."""
        self.env.note_reread()
        parsers = []
        with mock.patch.dict(os.environ, COLUMNS="100"), contextlib.redirect_stderr(io.StringIO()):
            for word in self.arguments[0].split():
                parsers += _avfr() if word == "avfr" else _programs(word)
            return [self._section(parser) for parser in parsers]

    def _section(self, parser: argparse.ArgumentParser) -> nodes.section:
        name = nodes.make_id(parser.prog)
        section = nodes.section(ids=[name], names=[name])
        section += nodes.title("", "", nodes.literal("", parser.prog))
        self.state.document.note_explicit_target(section, section)
        for text in filter(None, (parser.description or "").split("\n\n")):
            section += _paragraph(" ".join(text.split()))
        section += _epilog(parser.epilog or "")
        for group in parser._action_groups:
            actions = [a for a in group._group_actions if a.help is not argparse.SUPPRESS and a.dest != "help"]
            if actions:
                section += _options(parser, actions)
        return section


def _paragraph(text: str) -> nodes.paragraph:
    """A paragraph with options and code in backticks as code."""
    parts = re.split(r"(`[^`]+`|(?<![\w-])--[a-z][\w.-]*\w)", text)
    return nodes.paragraph("", "", *(
        nodes.literal("", part.strip("`")) if i % 2 else nodes.Text(part) for i, part in enumerate(parts) if part
    ))  # fmt: skip


def _options(parser: argparse.ArgumentParser, actions: list[argparse.Action]) -> nodes.definition_list:
    items = nodes.definition_list(classes=["options"])
    formatter = parser._get_formatter()
    for action in actions:
        item = nodes.definition_list_item()
        item += nodes.term("", "", nodes.literal("", formatter._format_action_invocation(action)))
        text = formatter._expand_help(action) if action.help else ""
        item += nodes.definition("", _paragraph(text if text[:1] == "." else text[:1].upper() + text[1:]))
        items += item
    return items


def _epilog(text: str) -> list[nodes.Node]:
    """Paragraphs; what follows `example:` or is indented is code."""
    out: list[nodes.Node] = []
    for block in filter(str.strip, re.split(r"\n\s*\n", text)):
        lines = block.rstrip().splitlines()
        code = [line for line in lines if line.startswith("  ")]
        words = " ".join(line for line in lines if not line.startswith("  "))
        if words.rstrip(":").lower() not in ("example", "examples", ""):
            out.append(_paragraph(words))
        if code:
            language = "console" if any("avfr" in line or "python" in line for line in code) else "text"
            out.append(nodes.literal_block("", "\n".join(line[2:] for line in code), language="text"))
            out[-1]["classes"] += [language]
    return out


def setup(app: Any) -> dict[str, Any]:
    """Sphinx's entry point."""
    app.add_directive("commands", Commands)
    return {"parallel_read_safe": True}

"""One page of the Python API for each package of `avfr_jax`, written before Sphinx reads the sources."""

import importlib
import inspect
import pathlib
import pkgutil
import re
from typing import Any

from sphinx.domains.python import PyObject

# Packages and modules in the order of the contents, a page each.
PAGES = (
    "ops", "motion", "nn", "models", "families", "model_store", "backbones", "convert", "losses", "metrics",
    "training", "landmarks", "faces", "media", "tracking", "codec", "reenact", "explain", "errors", "config",
)  # fmt: skip
_OUT = "api"
# Escapes and emphasis as they are; characters that only reStructuredText gives a meaning.
_SPECIAL = re.compile(r"(\\.|(?<!\w)\*\w[^*`]*\*(?!\w))|\*|\||_(?!\w)")
_BULLET = re.compile(r"\s*([*-]|\d+\.) ")


def _modules(name: str) -> list[Any]:
    """The package or module and its public modules."""
    try:
        top = importlib.import_module(f"avfr_jax.{name}")
    except ModuleNotFoundError as error:
        if error.name != f"avfr_jax.{name}":
            raise
        return []
    if not hasattr(top, "__path__"):
        return [top]
    walk = pkgutil.walk_packages(top.__path__, f"{top.__name__}.")
    public = (m.name for m in walk if not any(part.startswith("_") for part in m.name.split(".")))
    return [top, *map(importlib.import_module, sorted(public))]


def _documented(module: Any) -> list[str]:
    """Public names that the module itself defines and documents, in the order of its source."""
    own = (
        (value, name)
        for name, value in vars(module).items()
        if not name.startswith("_")
        and (inspect.isclass(value) or inspect.isroutine(value) or hasattr(value, "__wrapped__"))
        and getattr(value, "__module__", None) == module.__name__
        and inspect.getdoc(value)
        and getattr(value, "__name__", name) == name
    )
    return [name for _, name in own]


def _page(modules: list[Any]) -> str:
    lines = []
    for level, module in enumerate(modules):
        title, rule = module.__name__, "=" if level == 0 else "-"
        if level and not _documented(module):
            continue
        lines += [title, rule * len(title), "", f".. automodule:: {title}", "   :no-members:", ""]
        for name in _documented(module):
            value = inspect.unwrap(getattr(module, name))
            kind = "class" if inspect.isclass(value) else "function"
            if inspect.isclass(value) and issubclass(value, BaseException):
                kind = "exception"
            lines += [f".. auto{kind}:: {title}.{name}"]
            lines += ["   :members:", ""] if kind == "class" else [""]
    return "\n".join(lines)


def write_pages(app: Any) -> None:
    """Write `api/NAME.rst` and `api/index.rst`; a file is touched only where its text has changed."""
    folder = pathlib.Path(app.srcdir) / _OUT
    folder.mkdir(exist_ok=True)
    pages = {name: modules for name in PAGES if (modules := _modules(name))}
    texts = {f"{name}.rst": _page(modules) for name, modules in pages.items()}
    rows = [
        f"   * - :doc:`avfr_jax.{name} <{name}>`\n     - {_prose(_first_line(modules[0]))}"
        for name, modules in pages.items()
    ]
    table = ["Python API", "==========", "", ".. list-table::", "   :widths: 30 70", "", *rows, ""]
    contents = [".. toctree::", "   :hidden:", "", *(f"   avfr_jax.{name} <{name}>" for name in pages), ""]
    texts["index.rst"] = "\n".join(table + contents)
    for old in folder.glob("*.rst"):
        if old.name not in texts:
            old.unlink()
    for name, text in texts.items():
        path = folder / name
        if not path.exists() or path.read_text() != text:
            path.write_text(text)


def _first_line(module: Any) -> str:
    return " ".join((inspect.getdoc(module) or "").split("\n\n")[0].split())


def _prose(text: str) -> str:
    """Markdown in a docstring as reStructuredText: code in single backticks, all else literal."""
    parts = re.split(r"(``.+?``|:\w+:`[^`]+`|`[^`]+`)", text)
    for i, part in enumerate(parts):
        if i % 2 == 0:
            parts[i] = _SPECIAL.sub(lambda match: match[0] if match[1] else f"\\{match[0]}", part)
        elif part.startswith("`") and not part.startswith("``"):
            before = parts[i - 1][-1:]
            after = parts[i + 1][:1]
            parts[i] = ("\\ " if before and re.match(r"\w", before) else "") + f"`{part}`"
            parts[i] += "\\ " if re.match(r"\w", after) else ""
    return "".join(parts)


def docstring(app: Any, what: str, name: str, value: Any, options: Any, lines: list[str]) -> None:
    """Markdown lists and code in a docstring as reStructuredText."""
    out: list[str] = []
    for line in lines:
        bullet = _BULLET.match(line)
        if bullet and out and out[-1].strip() and not _in_list(out):
            out.append("")
        if line.lstrip().startswith((">>>", "...")):
            out.append(line)
        else:
            start = bullet.end() if bullet else 0
            out.append(line[:start] + _prose(line[start:]))
    lines[:] = ["", *out] if what == "property" else out  # napoleon takes a colon in the first line for a type


def signature(app: Any, what: str, name: str, value: Any, *_: Any) -> tuple[str, str] | None:
    """Protocols are not constructed."""
    return ("", "") if what == "class" and getattr(value, "_is_protocol", False) else None


def _in_list(lines: list[str]) -> bool:
    """Whether the last paragraph begins as a list's item."""
    start = len(lines)
    while start and lines[start - 1].strip():
        start -= 1
    return bool(_BULLET.match(lines[start]))


def setup(app: Any) -> dict[str, Any]:
    """Sphinx's entry point."""
    app.connect("builder-inited", write_pages)
    app.connect("autodoc-process-docstring", docstring, priority=100)  # before napoleon
    app.connect("autodoc-process-signature", signature)
    for field in PyObject.doc_field_types:
        if field.name == "variable":
            field.label = "Attributes"
    return {"parallel_read_safe": True}

"""Every English text of the repository that a person reads, with where it stands."""

from __future__ import annotations

import ast
import io
import json
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from support.imports import ROOT

CODE = ("nodes", "visual_planner", "training", "simulation", "launcher", "benchmarks")
# Sentences that models were trained with: they are data, and a better word would be another prompt.
TRAINED_SENTENCES = ("simulation/wordings.py", "visual_planner/planner/prompts.py")


class Text(NamedTuple):
    """A text and the place where it begins."""

    path: Path
    line: int
    text: str


def markdown_files() -> list[Path]:
    """Every Markdown file of the repository but those of hidden folders."""
    folders = ("docs", "models", "web/docs", "tests", *CODE)
    found = [*ROOT.glob("*.md"), *(file for name in folders for file in (ROOT / name).rglob("*.md"))]
    return sorted(file for file in found if not any(part.startswith(".") for part in file.relative_to(ROOT).parts))


def prose(file: Path) -> list[tuple[int, str]]:
    """Lines of a Markdown file outside of code blocks, numbered from 1."""
    lines, fenced = [], False
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif not fenced and not line.startswith("    "):
            lines.append((number, line))
    return lines


def without_code(text: str) -> str:
    """The text without code spans, addresses and names of options."""
    text = re.sub(r"``[^`]*``|`[^`]*`", "`x`", text)
    text = re.sub(r"\]\([^)]*\)|https?://\S+", "]", text)
    return re.sub(r"\*\*[a-z0-9_]+\*\*|(?<!\w)--[\w-]+", "x", text)


def _markdown() -> Iterator[Text]:
    for file in markdown_files():
        lines = prose(file)
        if file == ROOT / "docs" / "glossary.md":  # its second table names the words
            end = next(number for number, line in lines if line.startswith("## Words to avoid"))
            lines = [(number, line) for number, line in lines if number < end]
        paragraph: list[str] = []
        start = 0
        for number, line in [*lines, (0, "")]:
            if line.strip() and paragraph and number == start + len(paragraph):
                paragraph.append(line)
                continue
            if paragraph:
                yield Text(file, start, "\n".join(paragraph))
            paragraph, start = ([line], number) if line.strip() else ([], 0)


def _strings(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Docstrings and string literals; those without a space are names, not texts."""
    inner = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield node.lineno, "".join(part.value if isinstance(part, ast.Constant) else "{}" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inner:
            yield node.lineno, node.value


def _python() -> Iterator[Text]:
    files = [ROOT / "run.py", ROOT / "__init__.py", *(file for room in CODE for file in (ROOT / room).rglob("*.py"))]
    for file in sorted(files):
        source = file.read_text(encoding="utf-8")
        if file.relative_to(ROOT).as_posix() not in TRAINED_SENTENCES:
            for line, text in _strings(ast.parse(source)):
                if " " in text.strip():
                    yield Text(file, line, re.sub(r"(?m)^ +\w+: ", "", text))
        for token in tokenize.generate_tokens(io.StringIO(source).readline):
            if token.type == tokenize.COMMENT:
                yield Text(file, token.start[0], token.string)


def _javascript() -> Iterator[Text]:
    """Comments of the editor and its English texts; the other languages have words of their own."""
    for file in sorted((ROOT / "web").rglob("*.js")):
        source = file.read_text(encoding="utf-8")
        pattern = r"//[^\n]*|/\*.*?\*/"
        if file.parent.name != "texts" or file.stem == "en":
            pattern += r'|"[^"\n]* [^"\n]*"|`[^`]* [^`]*`'
        for found in re.finditer(pattern, source, re.DOTALL):
            yield Text(file, source[: found.start()].count("\n") + 1, found[0])


def _settings() -> Iterator[Text]:
    """Comments of the configuration files, and the plugin's description."""
    for file in sorted((ROOT / "training" / "configs").rglob("*.yaml")):
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
            if "#" in line:
                yield Text(file, number, line.partition("#")[2])
    yield Text(ROOT / "pyproject.toml", 1, (ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def _workflows() -> Iterator[Text]:
    """Notes, titles and descriptions in workflow files and blueprints."""
    for file in sorted([*(ROOT / "workflows").glob("*.json"), *(ROOT / "subgraphs").glob("*.json")]):
        for text in _said_in(json.loads(file.read_text(encoding="utf-8"))):
            yield Text(file, 1, text)


def _said_in(value: object, key: str = "") -> Iterator[str]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _said_in(inner, name)
    elif isinstance(value, list):
        for inner in value:
            yield from _said_in(inner, key)
    elif isinstance(value, str) and key in ("title", "description", "name", "label", "widgets_values") and " " in value:
        yield value


KINDS = {
    "markdown": _markdown, "python": _python, "javascript": _javascript, "settings": _settings, "workflows": _workflows,
}  # fmt: skip

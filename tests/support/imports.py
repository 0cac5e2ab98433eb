"""The repository's imports, read from its sources; nothing is imported."""

import ast
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Import:
    """One imported name: the file, the dotted name from the repository's root, and whether it runs with the file."""

    file: str
    name: str
    relative: bool
    at_start: bool

    @property
    def target(self) -> str:
        return self.name.split(".")[0]


def source_files(room: str) -> list[Path]:
    if room.endswith(".py"):
        return [ROOT / room]
    return sorted(path for path in (ROOT / room).rglob("*.py") if "__pycache__" not in path.parts)


@cache
def imports_of(path: Path) -> list[Import]:
    """All imports of a file; `from ..visual_planner.grid import x` in nodes/ has the name visual_planner.grid.x."""
    found: list[Import] = []
    package = path.relative_to(ROOT).parent.parts
    file = path.relative_to(ROOT).as_posix()

    def visit(node: ast.AST, at_start: bool) -> None:
        if isinstance(node, ast.Import):
            found.extend(Import(file, alias.name, False, at_start) for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            stem = (*base, *node.module.split(".")) if node.module else base
            found.extend(Import(file, ".".join((*stem, a.name)), node.level > 0, at_start) for a in node.names)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            at_start = False
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            at_start = False
        for child in ast.iter_child_nodes(node):
            visit(child, at_start)

    visit(ast.parse(path.read_text(encoding="utf-8"), filename=file), True)
    return found


def all_imports(room: str) -> list[Import]:
    return [entry for path in source_files(room) for entry in imports_of(path)]


def own_file(name: str) -> Path | None:
    """File of this repository that an imported dotted name stands for: its module, or the module that holds it."""
    parts = name.split(".")
    for size in (len(parts), len(parts) - 1):
        stem = ROOT.joinpath(*parts[:size])
        for path in (stem.with_suffix(".py"), stem / "__init__.py") if size else ():
            if path.is_file():
                return path
    return None


def loaded_at_start(first: Path) -> set[Path]:
    """Files of this repository that importing one of them runs, packages included."""
    seen, waiting = set(), [first]
    while waiting:
        path = waiting.pop()
        if path in seen:
            continue
        seen.add(path)
        package = path.parent / "__init__.py"
        waiting += [package] if package.is_file() and package.parent != ROOT else []
        waiting += [file for entry in imports_of(path) if entry.at_start and (file := own_file(entry.name))]
    return seen


def dotted(path: Path) -> str:
    """Dotted name of a source file, a package's for its `__init__.py`."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def graph(room: str) -> dict[Path, set[Path]]:
    """Each file of a room -> the files of the same room that it imports, anywhere in it."""
    files = source_files(room)
    return {
        path: {file for entry in imports_of(path) if (file := own_file(entry.name)) in files and file != path}
        for path in files
    }


def circles(edges: dict) -> list[set]:
    """Sets of two or more nodes that reach one another (strongly connected components, by reachability)."""

    def reached(start: object) -> set:
        seen, waiting = set(), list(edges[start])
        while waiting:
            node = waiting.pop()
            if node not in seen:
                seen.add(node)
                waiting += edges[node]
        return seen

    far = {node: reached(node) for node in edges}
    found = {frozenset({node, *(other for other in far[node] if node in far[other])}) for node in edges}
    return [set(group) for group in found if len(group) > 1]


def levels(edges: dict) -> dict:
    """Node -> its level: 1 imports nothing, every other stands one above the highest that it imports.

    Raises:
        ValueError: nodes import each other in a circle, which has no levels.
    """
    if found := circles(edges):
        raise ValueError(f"imports go in a circle: {found}")
    known: dict = {}

    def level(node: object) -> int:
        if node not in known:
            known[node] = 1 + max((level(other) for other in edges[node]), default=0)
        return known[node]

    return {node: level(node) for node in edges}

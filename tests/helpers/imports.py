"""Import rules of the package, checked on source files: which room may import which, and no cycles.

Every function takes the root folder of a repository. Its rooms are the folders in `ALLOWED`; `root/graphs/order.py` is the
module `cotrace.graphs.order`, and `root/cotrace/model.py` is `cotrace.model`. Imports are found wherever they stand: at the
top of a file, inside functions and in `TYPE_CHECKING` blocks, absolute and relative.
"""

import ast
import functools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import networkx as nx

PACKAGE = "cotrace"
BELOW_ATTRIBUTION = {"common", "kernels", "graphs"}
ALLOWED: dict[str, set[str]] = {  # room: the rooms that it may import, besides itself
    "common": set(),
    "kernels": {"common"},
    "graphs": {"common"},
    "attribution": set(),  # only its __init__: the code is in the sub-rooms
    "attribution.models": BELOW_ATTRIBUTION,
    "attribution.transcoders": BELOW_ATTRIBUTION | {"attribution.models"},
    "attribution.dictionaries": BELOW_ATTRIBUTION | {"attribution.models", "attribution.transcoders"},
    "attribution.tracing": BELOW_ATTRIBUTION | {"attribution.models", "attribution.transcoders"},
    "attribution.effects": BELOW_ATTRIBUTION | {"attribution.models", "attribution.transcoders", "attribution.tracing"},
    "attribution.interventions": BELOW_ATTRIBUTION | {"attribution.models", "attribution.transcoders"},
    "attribution.validation": BELOW_ATTRIBUTION
    | {"attribution.models", "attribution.transcoders", "attribution.tracing", "attribution.effects"}
    | {"attribution.interventions"},
    "training": BELOW_ATTRIBUTION | {"attribution.models", "attribution.transcoders"},
    "features": set(),  # only its __init__: the code is in the sub-rooms
    "features.store": {"common", "graphs"},
    "features.build": BELOW_ATTRIBUTION
    | {"features.store", "training", "attribution.models", "attribution.transcoders", "attribution.dictionaries"},
    "faithfulness": BELOW_ATTRIBUTION
    | {"features.store"}
    | {"training", "attribution.models", "attribution.transcoders", "attribution.tracing"}
    | {"attribution.effects", "attribution.interventions", "attribution.validation"},
    "viewer": set(),  # only its __init__: the code is in the sub-rooms
    "viewer.page": {"common", "graphs", "features.store", "faithfulness"},
    "viewer.server": {"common", "graphs", "features.store", "faithfulness", "viewer.page"},
    "cotrace": BELOW_ATTRIBUTION
    | {"viewer.page", "viewer.server"}
    | {"faithfulness", "features.store", "features.build", "attribution.dictionaries"}
    | {"training", "attribution.models", "attribution.transcoders", "attribution.tracing"}
    | {"attribution.effects", "attribution.interventions", "attribution.validation"},
}
FOLDERS = tuple(room for room in ALLOWED if "." not in room)
_IMPORTING = ast.Import | ast.ImportFrom | ast.Call
HEAVY = {"torch", "triton", "transformers"}
FORBIDDEN_LIBRARIES = {
    "common": HEAVY,
    "graphs": HEAVY,
    "features.store": HEAVY,
    "viewer.page": HEAVY,
    "viewer.server": HEAVY,
}
OUTSIDE = {"recipes", "benchmarks", "tests", "helpers"}  # folders of the repository that the package may not import


class Import(NamedTuple):
    """One import statement's module."""

    path: Path
    """File that imports, relative to the root."""
    line: int
    importer: str
    """Module that imports."""
    imported: str
    """Module that is imported, or whose name is."""
    lazy: bool
    """True if the statement is inside a function."""

    def __str__(self) -> str:
        return f"{self.path}:{self.line} imports {self.imported}"


def source_files(root: Path, folder: str) -> Iterator[Path]:
    """Yield the Python files of a folder, sorted; links, such as those of the rooms in `cotrace/`, are not followed."""
    for directory, folders, files in os.walk(root / folder):
        folders.sort()
        yield from (Path(directory) / name for name in sorted(files) if name.endswith(".py"))


def module_name(path: Path) -> str:
    """Return the module of a file, given relative to the root."""
    parts = list(path.with_suffix("").parts)
    if parts[-1] == "__init__":
        parts.pop()
    return ".".join(parts if parts[0] == PACKAGE else [PACKAGE, *parts])


def imports_of(root: Path, folders: tuple[str, ...] = FOLDERS) -> list[Import]:
    """Return all imports of the files in some folders."""
    files = {path.relative_to(root): path for folder in folders for path in source_files(root, folder)}
    modules = {module_name(relative) for relative in files}
    return [found for relative, path in files.items() for found in _imports_of_file(path, relative, modules)]


def _imports_of_file(path: Path, relative: Path, modules: set[str]) -> Iterator[Import]:
    importer = module_name(relative)
    package = importer if path.name == "__init__.py" else importer.rpartition(".")[0]
    for node, lazy in _import_nodes(path.read_text()):
        for name in _imported_modules(node, package, modules):
            yield Import(relative, node.lineno, importer, name, lazy)


@functools.cache
def _import_nodes(source: str) -> list[tuple[ast.AST, bool]]:
    """Return the statements and calls that may import, each with whether it is inside a function."""
    tree = ast.parse(source)
    functions = [
        node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
    ]
    lazy = {id(node) for function in functions for node in ast.walk(function)}
    return [(node, id(node) in lazy) for node in ast.walk(tree) if isinstance(node, _IMPORTING)]


def _imported_modules(node: ast.AST, package: str, modules: set[str]) -> list[str]:
    """Return the modules that a statement imports: the names in `from . import a, b` where these are modules."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        base = node.module or ""
        if node.level:
            parents = package.split(".")
            parents = parents[: len(parents) - node.level + 1]
            base = ".".join([*parents, base] if base else parents)
        names = [f"{base}.{alias.name}" for alias in node.names]
        return sorted({name if name in modules or base in ("", PACKAGE) else base for name in names})
    if isinstance(node, ast.Call) and ast.unparse(node.func) in (
        "importlib.import_module",
        "import_module",
        "__import__",
    ):
        return [_imported_by_name(node.args[0])] if node.args else []
    return []


def _imported_by_name(argument: ast.expr) -> str:
    """Return the constant start of the name in `import_module(name)`."""
    if isinstance(argument, ast.JoinedStr) and argument.values:
        argument = argument.values[0]  # type: ignore[assignment]
    return str(argument.value).rstrip(".") if isinstance(argument, ast.Constant) else "?"


def room_of(module: str) -> str | None:
    """Return the room of a module, the innermost one; None for a module of another package."""
    if module.split(".")[0] != PACKAGE:
        return None
    parts = module.split(".")[1:]
    rooms = (".".join(parts[:length]) for length in range(len(parts), 0, -1))
    return next((room for room in rooms if room in ALLOWED), PACKAGE)


def violations(root: Path) -> list[str]:
    """Return every import that the rules forbid, as one line with the reason."""
    return [f"{found}: {reason}" for found in imports_of(root) if (reason := _violation(found)) is not None]


def _violation(found: Import) -> str | None:
    importer, imported, library = room_of(found.importer), room_of(found.imported), found.imported.split(".")[0]
    assert importer is not None
    if library in OUTSIDE:
        return f"the package may not import {library}"
    if library in FOLDERS and library != PACKAGE:
        return f"import it as {PACKAGE}.{found.imported}"
    if library in FORBIDDEN_LIBRARIES.get(importer, ()):
        return f"{importer} may not import {library}"
    if imported not in (None, importer) and imported not in ALLOWED[importer]:
        return f"{importer} may import {', '.join(sorted(ALLOWED[importer])) or 'no other room'}"
    return None


def cycles(root: Path) -> list[str]:
    """Return the import cycles between files, each as one line; imports in functions and for type checking count too."""
    graph = nx.DiGraph()
    for found in imports_of(root):
        if room_of(found.imported) is not None:
            graph.add_edge(found.importer, found.imported)
    loops = [[module, module] for module in graph if graph.has_edge(module, module)]
    for component in nx.strongly_connected_components(graph):
        if len(component) > 1:
            edges = nx.find_cycle(graph.subgraph(component), sorted(component)[0])
            loops.append([edges[0][0], *(target for _, target in edges)])
    return [" -> ".join(loop) for loop in sorted(loops)]


def shared_class_names(root: Path) -> list[str]:
    """Return the names that two classes of the package share, each with its files."""
    places: dict[str, list[str]] = {}
    for folder in FOLDERS:
        for path in source_files(root, folder):
            for node in ast.parse(path.read_text()).body:
                if isinstance(node, ast.ClassDef):
                    places.setdefault(node.name, []).append(str(path.relative_to(root)))
    return [f"{name}: {', '.join(files)}" for name, files in sorted(places.items()) if len(files) > 1]

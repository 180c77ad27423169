"""ARCHITECTURE.md is true: the paths it names exist, and imports obey the rules it states."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = {  # room: the rooms it may import
    "common": set(),
    "kernels": {"common"},
    "graphs": {"common"},
    "attribution": {"common", "kernels", "graphs"},
    "training": {"common", "kernels", "graphs", "attribution"},
    "cotrace": {"common", "kernels", "graphs", "attribution", "training"},
}
LOCAL = {*ROOMS, "benchmarks", "tests"}


def imports(path: Path):
    """Absolute names of everything a file imports, lazily or not."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module or ""


def room_of(module: str) -> str | None:
    """The room that an import of the project leads to."""
    parts = module.split(".")
    if parts[0] != "cotrace":
        return None
    return parts[1] if len(parts) > 1 and parts[1] in ROOMS else "cotrace"


@pytest.mark.parametrize("room", ROOMS)
def test_imports_go_one_way(room):
    for path in (ROOT / room).rglob("*.py"):
        for module in imports(path):
            other = room_of(module)
            assert other in (None, room) or other in ROOMS[room], f"{path.relative_to(ROOT)} imports {module}"


def test_implementations_of_a_kernel_never_import_one_another():
    backends = {"reference", "torch", "numba", "triton"}
    for path in (ROOT / "kernels").glob("*/*.py"):
        taken = {
            name
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.ImportFrom) and (node.level or (node.module or "").startswith("cotrace"))
            for name in [*(node.module or "").split("."), *(alias.name for alias in node.names)]
        }
        assert not taken & backends, path


def test_no_room_is_imported_bare():
    for room in (*ROOMS, "benchmarks"):
        for path in (ROOT / room).rglob("*.py"):
            bare = {module.split(".")[0] for module in imports(path)} & (LOCAL - {"cotrace"})
            assert bare <= {"benchmarks"} & {room}, f"{path.relative_to(ROOT)} imports {bare}"


@pytest.mark.parametrize("module", ["cotrace", "cotrace.graphs", "cotrace.cli.report", "cotrace.cli.show"])
def test_graphs_need_no_torch(module):
    code = f"import {module}, sys; print([m for m in ('torch', 'triton', 'transformers') if m in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_references_never_import_an_optimised_version():
    for path in (ROOT / "kernels").rglob("reference.py"):
        assert set(imports(path)) <= {"torch"}, path
        relative = [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.ImportFrom) and n.level]
        assert not relative, path


@pytest.mark.parametrize("document", ["ARCHITECTURE.md", "README.md", "CONTRIBUTING.md"])
def test_the_paths_that_documents_name_exist(document):
    text = (ROOT / document).read_text()
    named = re.findall(r"`((?:[\w.-]+/)+[\w.-]*|[\w-]+\.(?:py|md|cfg|toml|txt))`", text)
    named += [link for link in re.findall(r"\]\(([^)#]+)\)", text) if not link.startswith("http")]
    rooms = [path for path in named if path.split("/")[0] in {*LOCAL, "docs", ".ci"} or "/" not in path]
    assert document == "CONTRIBUTING.md" or len(rooms) > 5
    missing = [path for path in rooms if not (ROOT / path).exists()]
    assert not missing


def test_every_folder_with_code_is_in_the_architecture():
    text = (ROOT / "ARCHITECTURE.md").read_text()
    folders = {
        path.parent.relative_to(ROOT).as_posix() for room in ROOMS for path in (ROOT / room).rglob("__init__.py")
    }
    assert all(f"{folder.split('/')[-1]}/" in text for folder in folders), folders

"""The architecture that the documents describe: import rules between rooms, and paths that exist."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.imports import ALLOWED, FOLDERS, cycles, imports_of, room_of, shared_class_names, violations

ROOT = Path(__file__).parent.parent
LOCAL = {*FOLDERS, "benchmarks", "tests"}


# --- the repository -------------------------------------------------------------------------


def test_rooms_import_only_what_they_may():
    assert violations(ROOT) == []


def test_no_files_import_each_other():
    assert cycles(ROOT) == []


def test_no_two_classes_share_a_name():
    assert shared_class_names(ROOT) == []


def test_every_room_has_files_and_every_file_a_room():
    found = {room_of(each.importer) for each in imports_of(ROOT)}
    assert found | {"attribution", "features", "viewer"} == set(ALLOWED)


def test_benchmarks_and_recipes_import_the_package_by_its_name():
    for each in imports_of(ROOT, ("benchmarks", "recipes")):
        assert each.imported.split(".")[0] not in set(FOLDERS) - {"cotrace"} | {"tests"}, str(each)


# --- the checker ----------------------------------------------------------------------------

FORBIDDEN = {  # name: file, forbidden import, part of the message
    "a room above": ("graphs/a.py", "from cotrace.attribution.models import b", "graphs may import common"),
    "a room above, whole": ("graphs/a.py", "import cotrace.training.b", "graphs may import common"),
    "the package itself": ("attribution/tracing/a.py", "import cotrace", "attribution.tracing may import"),
    "a name of the package": ("kernels/a.py", "from cotrace import Model", "kernels may import common"),
    "a room as a name": ("kernels/a.py", "from cotrace import graphs", "kernels may import common"),
    "relative": ("graphs/a.py", "from ..training import b", "graphs may import common"),
    "relative, a name": ("attribution/models/a.py", "from ... import training", "attribution.models may import"),
    "relative, two up": ("attribution/models/a.py", "from ...training.b import C", "attribution.models may import"),
    "relative from a package": ("graphs/__init__.py", "from ..kernels import b", "graphs may import common"),
    "lazily": ("common/a.py", "def f():\n    from cotrace.kernels import b", "common may import no other room"),
    "lazily, in a method": ("common/a.py", "class A:\n    def f(self):\n        import cotrace.kernels", "common may"),
    "lazily, relative": ("graphs/a.py", "def f():\n    from .. import training", "graphs may import common"),
    "for type checking": (
        "graphs/a.py",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from cotrace.model import Model",
        "graphs may import common",
    ),
    "by name": ("graphs/a.py", "import importlib\nimportlib.import_module('cotrace.training.b')", "graphs may import"),
    "by a made name": ("common/a.py", "import importlib\nimportlib.import_module(f'cotrace.kernels.{__name__}')", "common"),
    "kernels from graphs": ("graphs/a.py", "from cotrace.kernels import active", "graphs may import common"),
    "torch from graphs": ("graphs/a.py", "import torch", "graphs may not import torch"),
    "torch from graphs, lazily": ("graphs/a.py", "def f():\n    from torch.nn import Module", "graphs may not import torch"),
    "models from above": ("attribution/models/a.py", "from cotrace.attribution.transcoders import b", "attribution.models may"),
    "models from above, relative": ("attribution/models/a.py", "from ..tracing import b", "attribution.models may import"),
    "transcoders from above": ("attribution/transcoders/a.py", "from ..tracing.b import C", "attribution.transcoders may"),
    "tracing from interventions": ("attribution/tracing/a.py", "from ..interventions import b", "attribution.tracing may"),
    "interventions from tracing": ("attribution/interventions/a.py", "from .. import tracing", "attribution.interventions"),
    "tracing from validation": ("attribution/tracing/a.py", "from ..validation import b", "attribution.tracing may import"),
    "training from tracing": ("training/a.py", "from cotrace.attribution.tracing import b", "training may import"),
    "training from validation": ("training/a.py", "from ..attribution.validation import b", "training may import"),
    "training from the top": ("training/a.py", "from cotrace.model import Model", "training may import"),
    "recipes": ("training/a.py", "import recipes.texts", "may not import recipes"),
    "benchmarks": ("cotrace/a.py", "from benchmarks import measure", "may not import benchmarks"),
    "benchmarks, lazily": ("cotrace/a.py", "def f():\n    import benchmarks", "may not import benchmarks"),
    "tests": ("graphs/a.py", "from tests.helpers import cli", "may not import tests"),
    "a bare room": ("cotrace/a.py", "import kernels", "import it as cotrace.kernels"),
    "a bare module": ("training/a.py", "from graphs.order import NodeOrder", "import it as cotrace.graphs.order"),
}  # fmt: skip
PERMITTED = {
    "the own room": ("graphs/a.py", "from .order import b\nfrom . import order\nfrom cotrace.graphs import order"),
    "a room below": ("graphs/a.py", "from ..common import b\nimport cotrace.common.files"),
    "a sub-room below": ("attribution/tracing/a.py", "from ..models import b\nfrom cotrace.attribution.transcoders import c"),
    "validation": ("attribution/validation/a.py", "from ..tracing import b\nfrom ..interventions import c"),
    "training": ("training/a.py", "from cotrace.attribution.models import b\nfrom cotrace.kernels import c\nimport torch"),
    "the top": ("cotrace/a.py", "from . import training\nfrom .attribution.validation import b\nimport cotrace"),
    "a kernel's library": ("kernels/encode/torch.py", "import torch\nfrom . import streaming"),
    "other packages": ("graphs/a.py", "import numpy\nfrom pyarrow import compute"),
}  # fmt: skip


@pytest.fixture
def package(tmp_path):
    """Return a function that writes files into an empty package with all rooms, and returns its root."""
    for room in ALLOWED:
        folder = tmp_path / room.replace(".", "/")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "__init__.py").touch()

    def write(files):
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text + "\n")
        return tmp_path

    return write


@pytest.mark.parametrize("name", FORBIDDEN)
def test_a_forbidden_import_is_found(package, name):
    path, text, message = FORBIDDEN[name]
    root = package({"graphs/order.py": "", "kernels/active.py": "", path: text})
    (violation,) = violations(root)
    assert violation.startswith(f"{path}:{len(text.splitlines())} imports ")
    assert message in violation


@pytest.mark.parametrize("name", PERMITTED)
def test_a_permitted_import_is_no_violation(package, name):
    path, text = PERMITTED[name]
    assert violations(package({"graphs/order.py": "", path: text})) == []


CYCLES = {
    "two files": ("from .b import B", "from cotrace.graphs.a import A"),
    "lazily": ("from .b import B", "def f():\n    from .a import A"),
    "for type checking": (
        "from . import b",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from ..graphs.a import A",
    ),
    "itself": ("from . import a", ""),
}


@pytest.mark.parametrize("name", CYCLES)
def test_a_cycle_is_found(package, name):
    a, b = CYCLES[name]
    (found,) = cycles(package({"graphs/a.py": a, "graphs/b.py": b}))
    assert found.startswith("cotrace.graphs.a -> ")
    assert found.endswith(" -> cotrace.graphs.a")


def test_a_cycle_through_the_init_file_of_a_room_is_found(package):
    root = package({"graphs/__init__.py": "from .a import A", "graphs/a.py": "from cotrace.graphs import B"})
    assert cycles(root) == ["cotrace.graphs -> cotrace.graphs.a -> cotrace.graphs"]


def test_a_longer_cycle_is_found_and_a_chain_is_not_a_cycle(package):
    files = {f"training/{one}.py": f"from .{other} import x" for one, other in ("ab", "bc", "cd")}
    assert cycles(package(files)) == []
    (found,) = cycles(package({"training/d.py": "from . import a"}))
    assert {each.split(".")[-1] for each in found.split(" -> ")} == set("abcd")


def test_links_to_rooms_are_not_followed(package):
    root = package({"graphs/a.py": "import torch"})
    (root / "cotrace" / "graphs").symlink_to("../graphs")
    assert len(violations(root)) == 1


def test_shared_class_names_are_found(package):
    root = package({"graphs/a.py": "class A: ...", "training/a.py": "class A: ...\nclass B: ..."})
    assert shared_class_names(root) == ["A: graphs/a.py, training/a.py"]


# --- kernels, imports at run time, documents --------------------------------------------------


def test_implementations_of_a_kernel_never_import_one_another():
    backends = {"reference", "torch", "numba", "triton"}
    for path in (ROOT / "kernels").glob("*/*.py"):
        taken = {
            name
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.ImportFrom) and (node.level or (node.module or "").startswith("cotrace"))
            for name in [*(node.module or "").split("."), *(alias.name for alias in node.names)]
        }
        assert not taken & backends or path.name == "api.py", path


@pytest.mark.parametrize("module", ["cotrace", "cotrace.graphs", "cotrace.cli.report", "cotrace.cli.show"])
def test_graphs_need_no_torch(module):
    code = f"import {module}, sys; print([m for m in ('torch', 'triton', 'transformers') if m in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_references_import_only_torch():
    references = [found for found in imports_of(ROOT, ("kernels",)) if found.path.name == "reference.py"]
    assert {found.imported.split(".")[0] for found in references} == {"torch"}


def test_triton_is_imported_by_its_backends_alone():
    importers = [found.path for found in imports_of(ROOT) if found.imported.split(".")[0] == "triton"]
    assert {path.name for path in importers} == {"triton.py"}


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
        path.parent.relative_to(ROOT).as_posix() for room in FOLDERS for path in (ROOT / room).rglob("__init__.py")
    }
    assert all(f"{folder.split('/')[-1]}/" in text for folder in folders), folders

"""Packages: they contain the tracked files, work without the repository, and shadow no other package."""

import os
import shutil
import subprocess
import sys
import tarfile
import textwrap
import venv
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest
import tiny
from packaging.version import Version
from transformers.utils import import_utils

ROOT = Path(__file__).parent.parent
LINKS = sorted(path.name for path in (ROOT / "cotrace").iterdir() if path.is_symlink())  # rooms outside of cotrace/
ROOMS = {"cotrace": "cotrace", **{f"cotrace.{name}": name for name in LINKS}}  # import name: folder


def run(*command, **options) -> str:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
    return done.stdout


def python(code: str, cwd: Path, *paths: Path, **environment: str) -> str:
    """Run code in a fresh process started in `cwd`, with `paths` before everything installed."""
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths)), **environment}
    return run(sys.executable, "-c", textwrap.dedent(code), cwd=cwd, env=variables).strip()


def tracked() -> set[str]:
    """Return the files of the rooms that Git tracks, with new ones that are not ignored, without deleted ones."""
    listed = run("git", "ls-files", "--cached", "--others", "--exclude-standard", "-z", *ROOMS.values(), cwd=ROOT)
    return {name for name in listed.split("\0") if name and (ROOT / name).is_file()}


def is_installed(path: str) -> bool:
    """Return whether a tracked file of a room belongs to the package: code, `py.typed`, and what pages are made of."""
    return path.endswith((".py", ".js", ".css")) or Path(path).name == "py.typed" or "/vendor/" in path


def installed_name(path: str) -> str:
    """Return where a file of a room is installed: graphs/order.py is cotrace/graphs/order.py."""
    room, _, rest = path.partition("/")
    imported = next(name for name, folder in ROOMS.items() if folder == room)
    return f"{imported.replace('.', '/')}/{rest}"


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """Return a copy of the tracked files: a build in the checkout would leave files there."""
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("not a Git checkout: nothing to compare the packages with")
    copy = tmp_path_factory.mktemp("source")
    for name in tracked() | {"setup.cfg", "pyproject.toml", "README.md", "LICENSE", "NOTICE"}:
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, copy / name)
    for name in LINKS:
        (copy / "cotrace" / name).symlink_to(f"../{name}")
    return copy


@pytest.fixture(scope="module")
def built(source, tmp_path_factory) -> Path:
    """Return a folder with the source distribution, and the wheel that is built from it."""
    pytest.importorskip("build", reason="building needs the extra: pip install 'cotrace[dev]'")
    folder = tmp_path_factory.mktemp("built")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, source)
    return folder


@pytest.fixture(scope="module")
def wheel(built) -> Path:
    (path,) = built.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def target(wheel, tmp_path_factory) -> Path:
    """Return a folder with the installed wheel and nothing else."""
    folder = tmp_path_factory.mktemp("target")
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet")
    run(*pip, "install", "--no-deps", "--no-index", "--no-compile", "--target", folder, wheel)
    return folder


def test_every_room_is_linked_into_the_package_by_a_relative_link_that_git_tracks():
    listed = run("git", "ls-files", "--stage", "cotrace", cwd=ROOT).splitlines()
    links = {line.partition("\t")[2] for line in listed if line.startswith("120000")}
    assert links == {f"cotrace/{name}" for name in LINKS}
    assert all(os.readlink(ROOT / "cotrace" / name) == f"../{name}" for name in LINKS)
    assert {"common", "kernels", "graphs", "attribution", "training", "features", "faithfulness"} <= set(LINKS)


def test_the_package_is_typed():
    assert (ROOT / "cotrace" / "py.typed").is_file()


def test_the_wheel_has_exactly_the_tracked_files(wheel):
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    wanted = {installed_name(name) for name in tracked() if is_installed(name)}
    assert names == wanted
    assert {name.partition("/")[0] for name in names} == {"cotrace"}
    assert "cotrace/kernels/encode/api.py" in names


@pytest.mark.parametrize("part", sorted(path.name for path in (ROOT / "data").iterdir() if path.is_dir()))
def test_the_data_packages_fit_a_package_index_and_hold_their_files(part, tmp_path):
    """Package indexes take files of 100 MB; a data package is built from a copy, and its wheel is opened."""
    source = tmp_path / part
    shutil.copytree(ROOT / "data" / part, source, ignore=shutil.ignore_patterns("*.egg-info", "build", "__pycache__"))
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path, source)
    (path,) = tmp_path.glob("*.whl")
    assert path.stat().st_size <= 95e6
    names = {name for name in zipfile.ZipFile(path).namelist() if ".dist-info/" not in name}
    files = (file for file in (ROOT / "data" / part / part.replace("-", "_")).rglob("*") if file.is_file())
    assert names == {str(file.relative_to(ROOT / "data" / part)) for file in files if "__pycache__" not in file.parts}


def test_the_wheel_fits_a_package_index(wheel):
    assert wheel.stat().st_size <= 5e6


def test_the_wheel_carries_its_licence_and_its_command(wheel):
    archive = zipfile.ZipFile(wheel)
    extra = {name.partition(".dist-info/")[2] for name in archive.namelist() if ".dist-info/" in name}
    assert {"licenses/LICENSE", "licenses/NOTICE", "entry_points.txt"} <= extra
    (top,) = (name for name in archive.namelist() if name.endswith("top_level.txt"))
    assert archive.read(top).decode().split() == ["cotrace"]


def test_the_source_distribution_has_each_tracked_file_once(built):
    (path,) = built.glob("*.tar.gz")
    names = [name.partition("/")[2] for name in tarfile.open(path).getnames()]
    code = {installed_name(name) for name in tracked() if is_installed(name)}
    assert code | {"LICENSE", "NOTICE", "README.md", "pyproject.toml", "setup.cfg"} <= set(names)
    assert not {name.partition("/")[0] for name in names} & set(LINKS)
    assert len(names) == len(set(names))


def test_the_installed_wheel_traces_without_the_repository(target, model_folder, tmp_path):
    """Every module comes from the wheel, though the test's own environment may have an editable install."""
    code = f"""
        import importlib, pkgutil, sys
        import cotrace
        model = cotrace.load({str(model_folder)!r}, "neurons:4", device="cpu")
        graph = model.trace({tiny.prompt()})
        graph.prune().save("graph.arrow")
        for module in pkgutil.walk_packages(cotrace.__path__, "cotrace."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)
        for name, module in sorted(sys.modules.items()):
            if name.partition(".")[0] in ("cotrace", "attribution", "kernels", "graphs"):
                print(name, module.__file__)
        print("edges", graph.n_edges, cotrace.open("graph.arrow").n_edges)
    """
    environment = {"NUMBA_DISABLE_JIT": "1"}  # the new files would all be compiled, which takes longer than the rest
    *modules, edges = python(code, tmp_path, target, **environment).splitlines()
    places = dict(line.split(" ", 1) for line in modules)
    assert {str(Path(place).relative_to(target)) for place in places.values()} == {
        installed_name(name) for name in tracked() if name.endswith(".py") and not name.endswith("__main__.py")
    }
    assert int(edges.split()[1]) > int(edges.split()[2]) > 0


BUILD_GEMMA = """
    import kernels
    import transformers
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig
    from transformers.utils.import_utils import is_kernels_available
    sizes = dict(hidden_size=8, num_hidden_layers=1, intermediate_size=8, num_attention_heads=1, vocab_size=9, head_dim=8)
    Gemma3ForCausalLM(Gemma3TextConfig(**sizes, num_key_value_heads=1, pad_token_id=0))
    import cotrace.kernels.encode
    assert cotrace.kernels is not kernels
    print(kernels.__file__, is_kernels_available(), getattr(kernels, "IS_THE_LIBRARY", False), sep="|")
"""
ONLY_HERE = "import sys; sys.path.insert(0, '')\n"  # as `python -c` does, also where a setting forbids it


def library(folder: Path) -> Path:
    """Return a package `kernels` with the names that transformers imports, and a version that it accepts."""
    names = "CUDAProperties Device KernelizeFallback LayerRepository LocalLayerRepository Mode ROCMProperties"
    names += " register_kernel_mapping replace_kernel_forward_from_hub use_kernel_mapping get_kernel kernelize"
    names += " use_kernel_forward_from_hub use_kernelized_func FuncRepository LocalFuncRepository LockedFuncRepository"
    (folder / "kernels").mkdir()
    (folder / "kernels/__init__.py").write_text(
        "from unittest import mock\nfrom kernels.part import IS_THE_LIBRARY\n"
        f"for _name in {names.split()}:\n    globals()[_name] = mock.MagicMock()\n"
        "class Device:\n    def __init__(self, *a, **k): pass\n"
        "def use_kernel_forward_from_hub(*a, **k): return lambda cls: cls\n"
        "def use_kernelized_func(*a, **k): return lambda cls: cls\n"
    )
    (folder / "kernels/part.py").write_text("IS_THE_LIBRARY = True\n")
    metadata = folder / f"kernels-{import_utils.KERNELS_MIN_VERSION}.dist-info"
    metadata.mkdir()
    version = Version(import_utils.KERNELS_MIN_VERSION)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: kernels\nVersion: {version}\n")
    return folder


@pytest.mark.skipif(
    any(Path(path or ".").resolve() != ROOT and (Path(path) / "kernels/__init__.py").exists() for path in sys.path),
    reason="the library kernels is installed here: the case without it cannot be tried",
)
def test_from_the_root_without_the_library(tmp_path):
    file, available, real = python(ONLY_HERE + textwrap.dedent(BUILD_GEMMA), ROOT).split("|")
    assert Path(file).resolve() == ROOT / "kernels/__init__.py"  # found under that name, but empty
    assert (available, real) == ("False", "False")


@pytest.mark.skipif(not hasattr(import_utils, "KERNELS_MIN_VERSION"), reason="this transformers names no version")
def test_from_the_root_with_the_library(tmp_path):
    order = f"import sys; sys.path[:0] = ['', {str(library(tmp_path))!r}]\n"
    file, available, real = python(order + textwrap.dedent(BUILD_GEMMA), ROOT).split("|")
    assert Path(file).is_relative_to(tmp_path)
    assert (available, real) == ("True", "True")


@pytest.mark.parametrize("root", ["", ".", str(ROOT), f"{ROOT}/tests/.."])
@pytest.mark.parametrize("first", [True, False])
def test_the_library_wins_at_any_place_of_the_root_in_the_path(root, first, tmp_path):
    place = str(library(tmp_path))
    code = f"""
        import sys
        sys.path[:0] = {[root, place] if first else [place, root]}
        import kernels.part
        import kernels
        print(kernels.__file__, kernels.__spec__.origin, kernels.IS_THE_LIBRARY, kernels.__name__)
    """
    file = f"{place}/kernels/__init__.py"
    assert python(code, ROOT) == f"{file} {file} True kernels"


def test_a_broken_library_is_not_hidden(tmp_path):
    (library(tmp_path) / "kernels/part.py").write_text("raise ImportError('broken library')")
    code = f"""
        import sys
        sys.path[:0] = ["", {str(tmp_path)!r}]
        try:
            import kernels
        except ImportError as error:
            print(error, "kernels" in sys.modules)
    """
    assert python(code, ROOT) == "broken library False"


def test_nothing_imports_a_room_by_its_bare_name():
    bare = tuple(f"{verb} {room}" for verb in ("import", "from") for room in set(ROOMS.values()) - {"cotrace"})
    found = [
        f"{name}:{number}"
        for name in sorted(tracked())
        if name.endswith(".py")
        for number, line in enumerate((ROOT / name).read_text().splitlines(), 1)
        if line.strip().startswith(bare)
    ]
    assert not found


def test_a_type_checker_sees_the_types_of_the_installed_wheel(wheel, tmp_path):
    """A type checker in an environment with the wheel alone sees what `load` returns."""
    if find_spec("mypy") is None:
        pytest.skip("mypy is not installed: pip install 'cotrace[dev]'")
    venv.create(tmp_path / "venv", with_pip=False, symlinks=os.name != "nt")
    interpreter = tmp_path / "venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    place = run(interpreter, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
    zipfile.ZipFile(wheel).extractall(place)
    (tmp_path / "user.py").write_text(
        "import cotrace\n"
        "reveal_type(cotrace.load)\n"
        'graph = cotrace.open("circuit.arrow")\n'
        "assert isinstance(graph, cotrace.Graph)\n"
        "reveal_type(graph)\n"
        "graph.save(3)\n"
    )
    options = ("--config-file", os.devnull, "--ignore-missing-imports", "--cache-dir", tmp_path / "cache")
    command = (sys.executable, "-m", "mypy", "--python-executable", interpreter, *options, "user.py")
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    notes = done.stdout
    assert "-> cotrace.model.Model" in notes, notes + done.stderr
    assert 'Revealed type is "cotrace.graphs.graph.Graph"' in notes
    assert 'Argument 1 to "save" of "Graph" has incompatible type "int"' in notes
    assert "Found 1 error in 1 file" in notes

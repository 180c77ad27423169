"""Names in the page's modules: each is declared, imported or global, each import and export is used."""

import re
import shutil
import subprocess
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest

from cotrace.viewer.page.html import WORKERS
from cotrace.viewer.page.link import link

ROOT = Path(__file__).parent.parent
JS = ROOT / "viewer" / "js"
OXLINT = shutil.which("oxlint", path=sysconfig.get_path("scripts"))


def read(name: str) -> str:
    return (JS / name).read_text(encoding="utf-8")


def problems(folder: Path) -> list[str]:
    """Return what oxlint finds in the modules of a folder, by the rules in `.oxlintrc.json`."""
    if OXLINT is None:
        pytest.skip("no oxlint: pip install 'cotrace[dev]'")
    command = [OXLINT, "--config", ROOT / ".oxlintrc.json", "--format", "unix", folder]
    found = subprocess.run(command, capture_output=True, text=True)
    assert found.returncode in (0, 1), found.stderr
    return [line for line in found.stdout.splitlines() if line.startswith(str(folder))]


def unused(names: set[str], read: Callable[[str], str]) -> set[str]:
    """Return modules that are in none of the page's scripts, and exports that no module imports."""
    linked, exported, imported = set(), set(), set()
    for script in (link(entry, read) for entry in ("main.js", *WORKERS.values())):
        for name, variable, body in re.findall(
            r"^// (\S+)\nconst (\w+) = \(\(\) => \{$(.*?)^\}\)\(\);$", script, re.M | re.S
        ):
            linked.add(name)
            exported |= {
                (name, variable, each) for each in names_in(re.search(r"^return \{(.*)\};\n\Z", body, re.M)[1])
            }
        for bound, variable in re.findall(r"^const \{(.*)\} = (module_\w+);$", script, re.M):
            imported |= {(variable, each.split(":")[0]) for each in names_in(bound)}
    return (names - linked) | {f"{name}: {each}" for name, *key, each in exported if (*key, each) not in imported}


def names_in(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def modules() -> set[str]:
    return {path.relative_to(JS).as_posix() for path in JS.rglob("*.js")}


def test_every_name_is_declared_and_every_import_is_used():
    assert problems(JS) == []


def test_every_module_and_every_export_is_used():
    assert unused(modules(), read) == set()


def test_a_lost_import_is_found_in_every_module(tmp_path):
    broken = {
        name: lost
        for name in modules()
        if (lost := re.sub(r"^import \{[^}]*\} from .*\n", "", read(name), count=1, flags=re.M)) != read(name)
    }
    for name, source in broken.items():
        (tmp_path / name.replace("/", "-")).write_text(source, encoding="utf-8")
    found = {line.split(":")[0] for line in problems(tmp_path) if "is not defined" in line}
    assert found == {str(tmp_path / name.replace("/", "-")) for name in broken}
    assert len(broken) > len(modules()) / 2


WRONG = {
    "an import too many": ('import { byId } from "../ui/dom.js";', "'byId' is imported but never used"),
    "a local name that nothing uses": ("export function f() {\n  const a = 1;\n}", "'a' is declared but never used"),
    "a name of another function": ("export function f(a) {}\nexport const g = () => a;", "'a' is not defined"),
    "a name that the browser has by accident": ("export const f = () => open(name);", "'open' is not defined"),
}


@pytest.mark.parametrize(("source", "problem"), WRONG.values(), ids=WRONG)
def test_a_wrong_name_is_found(tmp_path, source, problem):
    (tmp_path / "module.js").write_text(source, encoding="utf-8")
    assert problem in "\n".join(problems(tmp_path))


def test_an_unused_module_and_an_unused_export_are_found():
    def changed(name):
        return read(name) + ("export const idle = 1;\n" if name == "ui/dom.js" else "")

    assert unused(modules() | {"ui/orphan.js"}, changed) == {"ui/orphan.js", "ui/dom.js: idle"}

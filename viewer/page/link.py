"""Link ES modules into one classic script: browsers do not load modules from `file:`.

Each module becomes a function that returns its exports, called once, after the modules that it imports. Only these forms
are allowed, so that a line is enough to read one:

    import { a, b as c } from "./x.js";
    export function f() {}     export async function f() {}     export function* f() {}
    export class C {}          export const c = 1;

Indentation, and lines that are only a comment, are left out. So that lines tell, a template literal has to end on its line.
"""

import posixpath
import re
from collections.abc import Callable, Iterator, Mapping

_IMPORT = re.compile(r"^import\s*\{([^{}]*)\}\s*from\s*[\"']([^\"']+)[\"'];?[ \t]*$", re.MULTILINE)
_EXPORT = re.compile(r"^export\s+(?=((?:async\s+)?function\s*\*?|class|const)\s*([A-Za-z_$][\w$]*))", re.MULTILINE)
_LEFT_OVER = re.compile(r"^\s*(?:import|export)\b(?!\s*[.(:=,}]).*$", re.MULTILINE)
_COMMENT_LINES = re.compile(r"^[ \t]*(?://[^\n]*|/\*(?:(?!\*/).)*\*/[ \t]*)\n", re.MULTILINE | re.DOTALL)
_INDENTATION = re.compile(r"^\s+", re.MULTILINE)
_NAME = re.compile(r"([A-Za-z_$][\w$]*)(?:\s+as\s+([A-Za-z_$][\w$]*))?")


class LinkError(Exception):
    """A module that cannot be linked: a fault in the package, not in its use."""


def link(entry: str, read: Callable[[str], str]) -> str:
    """Return one script that runs the module `entry` and everything that it imports.

    Args:
        entry: name of the first module, such as `main.js`.
        read: returns the source of a module by its name.

    Raises LinkError for a form of import or export that is not allowed, an import of a name that a module lacks, a cycle,
    and a source that would end a `<script>` element.
    """
    exports: dict[str, list[str]] = {}
    bodies = [_module(name, source, exports) for name, source in _in_order(entry, read).items()]
    return '"use strict";\n' + "\n".join(bodies)


def _in_order(entry: str, read: Callable[[str], str]) -> Mapping[str, str]:
    """Return the sources of all modules by name, each after those that it imports."""
    done: dict[str, str] = {}

    def visit(name: str, importers: tuple[str, ...]) -> None:
        if name in importers:
            raise LinkError(f"import cycle: {' -> '.join([*importers, name])}")
        if name in done:
            return
        source = read(name)
        for imported in _imported(name, source):
            visit(imported, (*importers, name))
        done[name] = source

    visit(entry, ())
    return done


def _imported(name: str, source: str) -> Iterator[str]:
    for match in _IMPORT.finditer(source):
        if not match[2].startswith("."):
            raise LinkError(f"{name} imports {match[2]!r}; name a file, such as './x.js'")
        yield posixpath.normpath(posixpath.join(posixpath.dirname(name), match[2]))


def _module(name: str, source: str, exports: dict[str, list[str]]) -> str:
    """Return a module as a constant that has its exports; add their names to `exports`."""
    if re.search(r"</script|<!--", source, re.IGNORECASE):
        raise LinkError(f"{name} contains </script or <!--, which would end its script element")

    def constant(match: re.Match[str]) -> str:
        origin = posixpath.normpath(posixpath.join(posixpath.dirname(name), match[2]))
        return f"const {{ {', '.join(_bindings(name, match[1], origin, exports))} }} = {_variable(origin)};"

    source = _shortened(name, source)
    exports[name] = [match[2] for match in _EXPORT.finditer(source)]
    body = _EXPORT.sub("", _IMPORT.sub(constant, source))
    if left := _LEFT_OVER.search(body):
        raise LinkError(f"{name}: cannot link {left[0].strip()!r}")
    result = f"return {{ {', '.join(exports[name])} }};"
    return f"// {name}\nconst {_variable(name)} = (() => {{\n{body}\n{result}\n}})();"


def _shortened(name: str, source: str) -> str:
    """Return a module without indentation, and without lines that are empty or only a comment."""
    code = _INDENTATION.sub("", _COMMENT_LINES.sub("", source))
    if torn := next((line for line in code.splitlines() if line.count("`") % 2), None):
        raise LinkError(f"{name}: a template literal goes on after its line: {torn.strip()!r}")
    return code


def _bindings(name: str, names: str, origin: str, exports: dict[str, list[str]]) -> Iterator[str]:
    for part in filter(None, (part.strip() for part in names.split(","))):
        match = _NAME.fullmatch(part)
        if match is None or match[1] not in exports[origin]:
            raise LinkError(f"{name} imports {part!r}, which {origin} does not export")
        yield f"{match[1]}: {match[2]}" if match[2] else match[1]


def _variable(name: str) -> str:
    return "module_" + re.sub(r"\W", "_", name.removesuffix(".js"))

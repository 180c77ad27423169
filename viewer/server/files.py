"""Files that the server serves: their versions, and saving what a user changed on the page."""

import os
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from cotrace.common.errors import ArgumentError, FileError, one_line
from cotrace.common.files import locked
from cotrace.graphs import Graph, open_graph
from cotrace.graphs.annotations import checked_groups
from cotrace.graphs.labels import LABEL_SOURCES, Label
from cotrace.graphs.nodes import parse_node
from cotrace.viewer.page.payload import PAGE_STATE

ATTEMPTS = 3  # to open a file that is replaced meanwhile


class StaleVersionError(Exception):
    """A file changed since the page read it."""


class ServedFile:
    """A graph file on disk.

    Args:
        path: the file.
        read_only: refuse to save.
    """

    def __init__(self, path: Path, read_only: bool = False):
        self.path, self.name = path.resolve(), path.name  # saving keeps a link a link
        self._read_only, self._lock = read_only, threading.Lock()

    def version(self) -> str:
        """Return a text that changes whenever the file does. Raises FileError for a file that is gone."""
        try:
            found = self.path.stat()
        except OSError as error:
            raise FileError(f"{self.path} is gone ({error.strerror}); put it back, or save a copy") from error
        return f"{found.st_ino:x}-{found.st_mtime_ns:x}-{found.st_size:x}"

    def open(self) -> tuple[str, Graph]:
        """Return the version and the graph of the file. Raises FileError and ResourceError as `open_graph`."""
        for _ in range(ATTEMPTS):
            version, graph = self.version(), open_graph(self.path)
            if version == self.version():
                return version, graph
        raise FileError(f"{self.path} is being written; try again")

    def obstacle(self) -> str | None:
        """Return why the file cannot be saved, or None."""
        if self._read_only:
            return "the server was started with --read-only"
        if not (os.access(self.path, os.W_OK) and os.access(self.path.parent, os.W_OK)):
            return f"you may not write to {self.path}"
        return None

    def save(self, state: Mapping[str, Any], version: str | None) -> str:
        """Write groups, labels and the state of the page into the file, atomically, and return its new version.

        Args:
            state: as in `with_state`.
            version: the version that the page has read; None overwrites any.

        Raises:
            StaleVersionError: the file has another version.
            ArgumentError: an invalid state.
            FileError: the file may not be written.
        """
        self.version()  # raises for a file that is gone, which a lock would create
        if (reason := self.obstacle()) is not None:
            raise FileError(f"cannot save {self.name}: {reason}; save a copy instead")
        try:
            with self._lock, locked(self.path):
                found, graph = self.open()
                if version not in (None, found):
                    raise StaleVersionError
                with_state(graph, state).save(self.path)
                return self.version()
        except OSError as error:
            raise FileError(f"cannot save {self.name}: {one_line(error)}; save a copy instead") from error


def with_state(graph: Graph, state: Mapping[str, Any]) -> Graph:
    """Write what a user changed on the page into a graph, and return it.

    Args:
        graph: the graph, which is changed.
        state: `groups`, all groups; `labels`, new labels by node: texts of the user, of which an empty one removes a label, or
            {text, source} for a label that is put back; and `page`, anything else. Each may be missing.

    Raises ArgumentError for a group or label that is invalid.
    """
    unknown = sorted(set(state) - {"groups", "labels", PAGE_STATE})
    if unknown:
        raise ArgumentError(
            f"unknown entries {', '.join(map(repr, unknown))}: a page saves groups, labels and {PAGE_STATE}"
        )
    if "groups" in state:
        graph.info["groups"] = checked_groups(state["groups"])
    _write_labels(graph, _mapping(state, "labels"))
    if PAGE_STATE in state:
        graph.info[PAGE_STATE] = _mapping(state, PAGE_STATE)
    return graph


def _mapping(state: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = state.get(name, {})
    if not isinstance(value, dict):
        raise ArgumentError(f"invalid {name}: expected an object")
    return value


def _write_labels(graph: Graph, labels: dict[str, Any]) -> None:
    given = {name: _label(value) for name, value in labels.items()}
    for name, label in given.items():
        if not label.text.strip() or label.source != "user":  # one that is put back replaces that of the user
            parse_node(name)
            with suppress(ArgumentError):  # it is not in this graph, so that it has no label
                graph.label(name, "")
    written = {name: label for name, label in given.items() if label.text.strip()}
    graph.add_labels({name: label for name, label in written.items() if label.source != "user"})
    graph.add_labels({name: label.text for name, label in written.items() if label.source == "user"}, source="user")


def _label(value: Any) -> Label:
    given = value if isinstance(value, dict) else {"text": value, "source": "user"}
    text, source = given.get("text"), given.get("source")
    if not isinstance(text, str) or source not in LABEL_SOURCES:
        raise ArgumentError(f"invalid label {value!r}: expected a text, or an object with text and source")
    return Label(text, source)

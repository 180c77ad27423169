"""The still picture of a page, for browsers that do not run it."""

from dataclasses import replace
from typing import Any

from cotrace.graphs.drawing.primitives import Scene
from cotrace.graphs.drawing.svg import scene_to_svg


def still_svg(scene: Scene) -> str:
    """Return a picture as an `<svg>` element without tooltips and `data-…` attributes, half of its size: images have neither."""
    parts: dict[str, Any] = {
        name: [_bare(part) for part in getattr(scene, name)] for name in ("bands", "edges", "shapes", "texts")
    }
    return scene_to_svg(replace(scene, data=(), **parts))


def _bare(part: Any) -> Any:
    empty = {"tooltip": "", "data": (), "texts": tuple(map(_bare, getattr(part, "texts", ())))}
    return replace(part, **{name: value for name, value in empty.items() if hasattr(part, name)})

"""Sites of a layer whose values dictionaries are trained on: names, hook points and widths.

The names are those of Gemma Scope 2's folders, and the hook points those of its configs.
"""

import re
from pathlib import PurePath
from typing import Literal, NamedTuple, get_args

from cotrace.common.errors import ArgumentError

from .architecture import Architecture

Site = Literal["resid_post", "mlp_out", "attn_out"]
SITES: tuple[Site, ...] = get_args(Site)
SITE_HOOKS: dict[Site, str] = {
    "resid_post": "output",  # the residual stream after a layer
    "mlp_out": "post_feedforward_layernorm.output",  # what a layer's MLP adds to the stream
    "attn_out": "self_attn.o_proj.input",  # the outputs of a layer's heads side by side, before their projection
}
CROSSCODER = "crosscoder"  # the folder of dictionaries of `resid_post` at several layers
HOOK = re.compile(r"(?:\w+\.)*?layers\.(?:(?P<layer>\d+)|\{(?P<layers>[\d,\s]+|all)\})\.(?P<end>.+)")


class HookPoint(NamedTuple):
    """A hook point of a config: the end of its name, and its layers; None for all layers."""

    end: str
    layers: tuple[int, ...] | None

    @property
    def site(self) -> Site | None:
        """The site that the hook point is; None if it is another one."""
        return next((site for site, end in SITE_HOOKS.items() if end == self.end), None)

    @classmethod
    def parse(cls, text: str) -> "HookPoint | None":
        """Parse `model.layers.9.output`, or of several layers `model.layers.{5,9}.output`; None for another form."""
        match = HOOK.fullmatch(text)
        if match is None:
            return None
        if match["layers"] == "all":
            return cls(match["end"], None)
        numbers = (match["layer"] or match["layers"]).replace(",", " ").split()
        return cls(match["end"], tuple(map(int, numbers)))


def site_width(arch: Architecture, site: Site) -> int:
    """Return the width of a site's vectors."""
    return arch.n_heads * arch.d_head if site == "attn_out" else arch.d_model


def check_site(site: str) -> Site:
    """Return a site's name. Raises ArgumentError for an unknown one."""
    if site not in SITES:
        raise ArgumentError(f"invalid site {site!r}: expected one of {', '.join(SITES)}")
    return site


def folder_of_dictionaries(path: str | PurePath) -> str | None:
    """Return the innermost folder of dictionaries in a path, `resid_post` for `resid_post_all` too; None if there is none."""
    names = {folder: name for name in (*SITES, CROSSCODER) for folder in (name, f"{name}_all")}
    return next((names[part] for part in reversed(PurePath(path).parts) if part in names), None)

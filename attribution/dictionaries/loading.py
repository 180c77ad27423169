"""Find and open SAEs and crosscoders by path or Hub id, and check that they fit the model."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from cotrace.attribution.models.architecture import Architecture
from cotrace.attribution.models.hub import HubName, download, list_repo_files
from cotrace.attribution.models.sites import CROSSCODER, HookPoint, Site, check_site, folder_of_dictionaries
from cotrace.attribution.transcoders.configs import CONFIG_NAMES, UNSTATED, read_activation, read_config
from cotrace.attribution.transcoders.formats import Activation, TranscoderSet, find_sets
from cotrace.common.checks import check_unicode
from cotrace.common.errors import ArgumentError, FileError

from .dictionary import SparseDictionary
from .files import DictionaryFile

LAYOUTS = "resid_post, mlp_out or attn_out with layer_9_…/params.safetensors, or crosscoder/layer_5_9_…/params_layer_0.safetensors"
SCOPE = ("Gemma Scope 2 per layer", "Gemma Scope 2 CLT")  # formats whose file names SAEs and crosscoders have, too
SEVERAL_LAYERS = re.compile(r"layer_(\d+(?:_\d+)+)_")
TRANSCODERS = "transcoders, which can be traced: pass them as transcoders"
MAX_LISTED = 12


class FoundDictionary(NamedTuple):
    """A dictionary that a name was resolved to, before its config is read.

    Attributes:
        name: as the user gave it.
        hub: the repository that has it; None for a local folder.
        root: the local folder that `files` are relative to; None for a repository whose files are not downloaded.
        chosen: the set of files.
    """

    name: str
    hub: HubName | None
    root: Path | None
    chosen: TranscoderSet

    @property
    def paths(self) -> list[str]:
        """The paths of its files, by layer."""
        return [path for layer in sorted(self.chosen.files) for path in self.chosen.files[layer]]


@dataclass(frozen=True)
class _Stated:
    """Kind, site, layers and activation of a dictionary, as configs and names of folders state them."""

    kind: str
    site: Site
    layers: tuple[int, ...]
    activation: Activation


def load_dictionary_files(spec: str | os.PathLike, arch: Architecture) -> SparseDictionary:
    """Load SAEs of one site, or a crosscoder, from a local folder or a Hub id (`owner/name/folder@revision`).

    The folder is that of one layer's SAE (`resid_post/layer_9_width_16k_l0_medium`), the name of a set of SAEs of several
    layers (`resid_post_all/width_16k_l0_small`), a crosscoder (`crosscoder/layer_5_9_12_15_width_65k_l0_medium`), or a folder
    above that holds only one of these.

    Raises:
        ArgumentError: `spec` names nothing, or several dictionaries.
        FileError: transcoders, an unknown site, wrong shapes, a layer that the model lacks, or damaged files.
        HubError: the Hub does not have it, or cannot be reached.
    """
    return open_dictionary(find_dictionary(spec), arch)


def find_dictionary(spec: str | os.PathLike) -> FoundDictionary:
    """Resolve a spec without a model, and without downloading weights. Raises as `load_dictionary_files` does."""
    text = os.fspath(spec)
    check_unicode(text, "rename the folder of the dictionary")
    local = _local(text)
    if local is None:
        hub = HubName.parse(text)
        return FoundDictionary(text, hub, None, _choose(text, list_repo_files(hub), hub.folder, Path()))
    root, selection = local
    paths = [path.relative_to(root).as_posix() for path in root.rglob("*.safetensors")]
    return FoundDictionary(text, None, root, _choose(text, paths, selection, root))


def names_dictionary(spec: str | os.PathLike) -> bool:
    """Return whether a spec names SAEs or a crosscoder rather than transcoders, without using the network."""
    text = os.fspath(spec)
    try:
        if _local(text) is None:
            return folder_of_dictionaries(text.partition("@")[0]) is not None
        found = find_dictionary(text)
        _read_stated(found, found.root or Path())
    except (ArgumentError, FileError):  # several sets, for example: the folder still says what they are
        return folder_of_dictionaries(Path(text).expanduser().absolute()) is not None
    return True


def open_dictionary(found: FoundDictionary, arch: Architecture) -> SparseDictionary:
    """Open a dictionary that was found. Its configs are checked before weights are downloaded."""
    root, revision = found.root, None
    if found.hub is not None:
        folders = {str(PurePosixPath(path).parent) for path in found.paths}
        configs = [f"{folder}/{name}" for folder in folders for name in CONFIG_NAMES]
        _check_layers(found.name, _read_stated(found, download(found.hub, configs)).layers, arch)
        root = download(found.hub, [*found.paths, *configs])
        revision = root.name
    assert root is not None
    stated = _read_stated(found, root)
    _check_layers(found.name, stated.layers, arch)
    files = [DictionaryFile(layer, root / path) for layer, path in zip(stated.layers, found.paths, strict=True)]
    dictionary = SparseDictionary(found.name, stated.kind, stated.site, files, stated.activation, revision=revision)
    dictionary.check(arch)
    return dictionary


def _check_layers(name: str, layers: Sequence[int], arch: Architecture) -> None:
    if max(layers) >= arch.n_layers:
        raise FileError(
            f"{name} reads layer {max(layers)} and the model has {arch.n_layers}; choose a dictionary made for it"
        )


def _local(text: str) -> tuple[Path, str] | None:
    """Return the folder that holds the folder of a set, and the name of the set in it; None for a Hub id."""
    path = Path(text).expanduser()
    if path.is_dir():
        path = path.absolute()
        direct = any(path.glob("params*.safetensors"))
        return (path.parent, path.name) if direct else (path, "")
    if path.is_file():
        raise ArgumentError(f"{text} is a file; pass the folder that holds it")
    if any(path.parent.glob("layer_*/params.safetensors")):
        return path.parent.absolute(), path.name
    if text.startswith(("/", ".", "~")):
        raise FileError(f"{text} does not exist; pass an existing folder, or a Hub id")
    return None


def _choose(text: str, paths: Sequence[str], selection: str, root: Path) -> TranscoderSet:
    """Return the set of files that a selection names. Raises FileError for none, ArgumentError for several."""
    sets = {name: found for name, found in find_sets(paths).items() if found.format.name in SCOPE}
    selected = [part for name, found in sets.items() if (part := _selected(name, found, selection))]
    candidates = [each for each in selected if not _is_transcoder_folder(root / each.name)]
    if not candidates:
        if selected:
            raise FileError(f"{text} holds {TRANSCODERS}")
        raise FileError(f"{text} holds no SAEs and no crosscoder: expected {LAYOUTS}")
    if len(candidates) > 1:
        names = sorted(each.name for each in candidates)
        more = f" and {len(names) - MAX_LISTED} more" if len(names) > MAX_LISTED else ""
        raise ArgumentError(
            f"{text} holds several dictionaries; add one of these to the path: {', '.join(names[:MAX_LISTED])}{more}"
        )
    return candidates[0]


def _selected(name: str, found: TranscoderSet, selection: str) -> TranscoderSet | None:
    """Return the part of a set that a selection names: all of it, or one layer's folder; None for neither."""
    if not selection or name == selection or name.startswith(f"{selection}/"):
        return found
    files = {
        layer: paths
        for layer, paths in found.files.items()
        if found.format.kind == "per-layer" and str(PurePosixPath(paths[0]).parent) == selection
    }
    return replace(found, name=selection, files=files) if files else None


def _is_transcoder_folder(path: Path) -> bool:
    names = ("clt", "transcoder", "transcoder_all")
    return folder_of_dictionaries(path) is None and any(name in path.parts for name in names)


def _read_stated(found: FoundDictionary, root: Path) -> _Stated:
    """Return what the configs beside the files say, or else the names of folders. Raises FileError where they differ."""
    configs = {path: _config_beside(root / path) for path in found.paths}
    points = {path: _site_of(found.name, *config) for path, config in configs.items()}
    folder = folder_of_dictionaries((root / found.chosen.name).absolute() if found.hub is None else found.chosen.name)
    is_crosscoder = found.chosen.format.kind == "clt"
    if is_crosscoder and folder != CROSSCODER and not any(points.values()):
        raise FileError(f"{found.name} holds {TRANSCODERS}, or a crosscoder without its config.json: download that too")
    sites = {point.site for point in points.values() if point is not None}
    if folder is not None:
        sites.add("resid_post" if folder == CROSSCODER else check_site(folder))
    site = sites.pop() if len(sites) == 1 else None
    if site is None:
        said = "differ in their site" if sites else "do not say their site"
        raise FileError(f"the config.json and the folder of {found.name} {said}; keep them as they were published")
    layers = _crosscoder_layers(found, root, points) if is_crosscoder else _sae_layers(found, points)
    activations = {read_activation(*config) for config in configs.values()}
    if len(activations) > 1:
        raise FileError(f"the config.json files of {found.name} name several activations; use one for all layers")
    return _Stated(CROSSCODER if is_crosscoder else "sae", site, layers, next(iter(activations), UNSTATED))


def _config_beside(path: Path) -> tuple[Path, dict[str, Any]]:
    """Return the path of the config beside a file, and its entries; none if there is no config."""
    present = next((path.parent / name for name in CONFIG_NAMES if (path.parent / name).is_file()), None)
    return path.parent / CONFIG_NAMES[0], {} if present is None else read_config(present)


def _site_of(text: str, path: Path, config: dict[str, Any]) -> HookPoint | None:
    """Return the hook point that a config names, None without one. Raises FileError for anything but a site's."""
    reads, writes = config.get("hf_hook_point_in"), config.get("hf_hook_point_out")
    if reads is None:
        return None
    point = HookPoint.parse(str(reads))
    if str(config.get("type")) in ("transcoder", "clt") or str(reads).endswith("pre_feedforward_layernorm.output"):
        raise FileError(f"{text} holds {TRANSCODERS}")
    if point is None or point.site is None or writes not in (None, reads):
        raise FileError(
            f"{text} was trained from {reads!r} to {writes!r} ({path.name}); use an SAE or a crosscoder of resid_post, mlp_out "
            "or attn_out"
        )
    return point


def _sae_layers(found: FoundDictionary, points: dict[str, HookPoint | None]) -> tuple[int, ...]:
    """Return the layers of SAEs, from the names of their folders. Raises FileError where a config names another."""
    layers = tuple(sorted(found.chosen.files))
    for layer, path in zip(layers, found.paths, strict=True):
        point = points[path]
        if point is not None and point.layers != (layer,):
            raise FileError(
                f"{path} is in the folder of layer {layer} and its config.json says otherwise; rename the folder"
            )
    return layers


def _crosscoder_layers(found: FoundDictionary, root: Path, points: dict[str, HookPoint | None]) -> tuple[int, ...]:
    """Return the layers of a crosscoder, from its config or the name of its folder. Raises FileError unless each has a file."""
    named = SEVERAL_LAYERS.match((root / found.chosen.name).name)
    stated = {point.layers for point in points.values() if point is not None and point.layers is not None}
    if named:
        stated.add(tuple(map(int, named[1].split("_"))))
    if len(stated) != 1:
        raise FileError(
            f"the folder and the config.json of {found.name} name {'different' if stated else 'no'} layers; keep them as they "
            "were published: crosscoder/layer_5_9_12_15_…"
        )
    (layers,) = stated
    if sorted(found.chosen.files) != list(range(len(layers))) or list(layers) != sorted(set(layers)):
        missing = ", ".join(f"params_layer_{i}.safetensors" for i in range(len(layers)) if i not in found.chosen.files)
        raise FileError(
            f"{found.name} has layers {', '.join(map(str, layers))} and lacks {missing or 'others'}; download it again"
        )
    return layers

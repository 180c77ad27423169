"""Find and open transcoders by name, path or Hub id, and check that they fit the model."""

import os
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from cotrace.attribution.models.architecture import Architecture
from cotrace.attribution.models.hub import HubName, download, list_repo_files
from cotrace.attribution.models.sites import CROSSCODER, HookPoint, folder_of_dictionaries
from cotrace.common.checks import check_unicode
from cotrace.common.errors import ArgumentError, FileError

from .base import Transcoders
from .configs import CONFIG_NAMES, UNSTATED, read_activation, read_config
from .files import FileTranscoders
from .foreign import describe_file, describe_json_files, describe_others
from .formats import Activation, TranscoderSet, find_sets
from .listed import ListedSet, as_set, download_listed, read_list
from .neurons import DEFAULT_K, NeuronTranscoders
from .shipped import SHIPPED_SETS, open_shipped, shipped_for

FILE_NAMES = (
    "params_layer_0.safetensors, packed_layer_0.safetensors, layer_0_…/params.safetensors, W_enc_0.safetensors "
    "or layer_0.safetensors"
)
# Endings of the hook points of an MLP's input and output, in circuit-tracer and Gemma Scope 2.
READS = ("mlp.hook_in", "pre_feedforward_layernorm.output")
WRITES = ("hook_mlp_out", "post_feedforward_layernorm.output")
# What can be done with dictionaries that do not replace MLPs.
INSPECT = "inspect it with `cotrace evaluate`, `cotrace features build`, `cotrace steer --dictionary` or cotrace.load_dictionary"


def default_transcoders(model: str | os.PathLike) -> str:
    """Return the default transcoders of a model: the set that ships for it, otherwise "neurons"."""
    return shipped_for(os.fspath(model)) or "neurons"


def load_transcoders(spec: str | os.PathLike, arch: Architecture) -> Transcoders:
    """Load `neurons[:k]`, a set that ships, a local folder or a Hub id (`owner/name/folder@revision`).

    To choose one of several sets in a folder, append the name of the set to the path.

    Raises:
        ArgumentError: `spec` names nothing, or several sets.
        FileError: missing layers, transcoders of another site than the MLP, wrong shapes, or damaged files.
        HubError: the Hub does not have them, or cannot be reached.
    """
    found = find_transcoders(spec)
    if isinstance(found, NeuronTranscoders):
        return found
    text = os.fspath(spec)
    if isinstance(found, HubName):
        return _from_hub(text, found, arch)
    if isinstance(found, ListedSet):
        return _from_list(text, found, arch)
    root, chosen = found
    return _open(text, root, chosen, None, arch)


def find_transcoders(spec: str | os.PathLike) -> NeuronTranscoders | HubName | ListedSet | tuple[Path, TranscoderSet]:
    """Resolve a spec without the model and without the network.

    Returns neurons, a Hub id, the files that a folder's config lists, or a folder with one of its sets. Raises CotraceError for a spec that names nothing,
    so that a misspelt name is reported before a model is downloaded.
    """
    text = os.fspath(spec)
    check_unicode(text, "rename the folder of the transcoders")
    if text.partition(":")[0] == "neurons":
        return NeuronTranscoders(_neuron_count(text))
    if text in SHIPPED_SETS:
        return open_shipped(text)
    root, selection = _local(text)
    if root is None:
        return HubName.parse(text)
    paths = [path.relative_to(root).as_posix() for path in root.rglob("*")]
    sets = find_sets(paths)
    if not sets:
        if listed := _listed_in(root):
            return listed
        for path in _configs_in({root}):
            _check_sites(text, path, read_config(path))
        _refuse_others(text, describe_others(paths) or describe_json_files(root))
    return root, _choose(text, sets, selection)


def _from_hub(text: str, hub: HubName, arch: Architecture) -> FileTranscoders:
    """Check names and configs before any large file is downloaded."""
    listed = list_repo_files(hub)
    below = [path for path in listed if _is_in(path, hub.folder)]
    if not find_sets(below):
        configs = [path for path in (str(PurePosixPath(hub.folder) / name) for name in CONFIG_NAMES) if path in listed]
        if configs and (pointers := _listed_in(download(hub, configs) / hub.folder)):
            return _from_list(text, pointers, arch)
        _refuse_others(text, describe_others(below))
    chosen = _choose(text, find_sets(listed), hub.folder)
    _check_set(text, chosen.name, chosen, arch)
    wanted = [path for paths in chosen.files.values() for path in paths]
    folders = {Path(path).parent for path in wanted}
    configs = [path for path in listed if Path(path).name in CONFIG_NAMES and Path(path).parent in folders]
    if configs:
        snapshot = download(hub, configs)
        _check_configs(text, {snapshot / folder for folder in folders})
    snapshot = download(hub, [*wanted, *configs])
    return _open(text, snapshot, chosen, snapshot.name, arch)


def _listed_in(folder: Path) -> ListedSet | None:
    """Return the files that a folder's config lists, or None."""
    for path in (folder / name for name in CONFIG_NAMES):
        if path.is_file() and (listed := read_list(path, read_config(path))):
            return listed
    return None


def _from_list(text: str, listed: ListedSet, arch: Architecture) -> FileTranscoders:
    """Open the files that a config lists; its site and activation are checked before anything is downloaded."""
    stated = _check_config(text, listed.config_path, listed.config)
    chosen = as_set(listed)
    _check_set(text, "", chosen, arch)
    local, revision = download_listed(listed, CONFIG_NAMES)
    absolute = {layer: [str(local[path]) for path in paths] for layer, paths in chosen.files.items()}
    return _open(text, Path(), replace(chosen, files=absolute), revision, arch, stated)


def _refuse_others(text: str, what: str | None) -> None:
    """Raise FileError if files of another tool were recognised."""
    if what is not None:
        raise FileError(f"{text} holds no transcoders that can be traced: {what}")


def _neuron_count(text: str) -> int:
    count = text.partition(":")[2] or str(DEFAULT_K)
    if not count.isdecimal():
        raise ArgumentError(
            f"invalid transcoders {text!r}: expected neurons or neurons:K, K features for each layer and position"
        )
    return int(count)


def _local(text: str) -> tuple[Path | None, str]:
    """Return the folder of a path, and the name of the set if the path ends in one; None for a Hub id."""
    path = Path(text).expanduser()
    if path.is_dir():
        return path, ""
    if path.is_file():
        if what := describe_file(path):
            raise ArgumentError(f"{text} is a file {what}" if what.startswith("of ") else f"{text} is {what}")
        raise ArgumentError(f"{text} is a file; pass the folder that holds all layers ({FILE_NAMES})")
    if any(path.parent.glob("*/*.safetensors")):
        return path.parent, path.name
    if text.startswith(("/", ".", "~")):
        raise FileError(f"{text} does not exist; pass an existing folder, a Hub id, or neurons")
    return None, ""


def _choose(text: str, sets: dict[str, TranscoderSet], selection: str) -> TranscoderSet:
    """Return the set that a path selects. Raises FileError if there is none, ArgumentError if there are several."""
    selected = {name: found for name, found in sets.items() if _is_in(name, selection)}
    candidates = {name: found for name, found in selected.items() if not folder_of_dictionaries(name)} or selected
    if not candidates:
        if folder := folder_of_dictionaries(text.partition("@")[0]):
            raise _not_traceable(text, folder)
        usable = sorted(name for name in sets if not folder_of_dictionaries(name))
        hint = f"; the sets there are {', '.join(usable)}" if usable else ""
        raise FileError(f"{text} holds no transcoders: none of {FILE_NAMES}{hint}")
    if selection in candidates:
        return candidates[selection]
    if len(candidates) > 1:
        raise ArgumentError(
            f"{text} holds several sets of transcoders; add one of these to the path: {', '.join(sorted(candidates))}"
        )
    return next(iter(candidates.values()))


def _is_in(name: str, selection: str) -> bool:
    return not selection or name == selection or name.startswith(f"{selection}/")


def _check_set(text: str, path: str, chosen: TranscoderSet, arch: Architecture) -> None:
    """Raise FileError if file names show another site than the MLP, missing layers, or too many layers."""
    folder = folder_of_dictionaries(path)
    if folder and chosen.format.name.startswith("Gemma Scope 2"):
        raise _not_traceable(text, folder)
    missing = chosen.missing(arch.n_layers)
    if missing:
        raise FileError(f"{text} lacks files for some of the model's {arch.n_layers} layers: {', '.join(missing)}")
    if max(chosen.files) >= arch.n_layers:
        raise FileError(
            f"{text} has {max(chosen.files) + 1} layers and the model has {arch.n_layers}; choose transcoders made for it"
        )


def _not_traceable(text: str, folder: str) -> FileError:
    what = "a crosscoder" if folder == CROSSCODER else f"an SAE of {folder}"
    return FileError(
        f"{text} is {what}, not of MLPs, and cannot be traced; trace with clt or transcoder_all, and {INSPECT}"
    )


def _open(
    text: str,
    root: Path,
    chosen: TranscoderSet,
    revision: str | None,
    arch: Architecture,
    stated: Activation = UNSTATED,
) -> FileTranscoders:
    """Open the files of a set; an activation that is `stated` elsewhere wins over that of the configs beside the files."""
    _check_set(text, str(root / chosen.name), chosen, arch)
    files = [[root / path for path in sorted(chosen.files[layer])] for layer in range(arch.n_layers)]
    found = _check_configs(text, {path.parent for paths in files for path in paths})
    activation = found if stated == UNSTATED else stated
    transcoders = FileTranscoders(text, chosen.format, files, revision=revision, activation=activation)
    transcoders.check(arch)
    return transcoders


def _check_configs(text: str, folders: set[Path]) -> Activation:
    """Return the activation that the configs name; raise FileError for another site or unknown activations."""
    named = {}
    for path in _configs_in(folders):
        named[_check_config(text, path, read_config(path))] = path
    if len(named) > 1:
        raise FileError(
            f"{text} mixes activations: {', '.join(map(str, named.values()))} differ; use one for all layers"
        )
    return next(iter(named), UNSTATED)


def _configs_in(folders: set[Path]) -> list[Path]:
    paths = (folder / name for folder in folders for name in CONFIG_NAMES)
    return sorted(path for path in paths if path.is_file())


def _check_config(text: str, path: Path, config: dict[str, Any]) -> Activation:
    """Return the activation that a config names; raise FileError for another site or an unknown activation."""
    _check_sites(text, path, config)
    return read_activation(path, config)


def _check_sites(text: str, path: Path, config: dict[str, Any]) -> None:
    """Raise FileError if a config names other hook points than the MLP's input and output."""
    _check_site(text, path, config.get("hf_hook_point_in", config.get("feature_input_hook")), READS)
    _check_site(text, path, config.get("hf_hook_point_out", config.get("feature_output_hook")), WRITES)


def _check_site(text: str, path: Path, hook: Any, allowed: tuple[str, ...]) -> None:
    if hook is not None and not str(hook).endswith(allowed):
        point = HookPoint.parse(str(hook))
        if point is not None and point.site is not None:
            raise _not_traceable(text, point.site if point.layers and len(point.layers) == 1 else CROSSCODER)
        raise FileError(
            f"{text} was trained at {hook!r} ({path.name}); tracing needs transcoders that read "
            f"{READS[1]} and write {WRITES[1]}"
        )

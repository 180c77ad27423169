"""Does the circuit do what it says? Its nodes are ablated in the model, and what happens is held to its edges."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor

from cotrace.graphs import Graph, node_label, strongest_paths
from cotrace.graphs.effects import ablation_effects, pair_influence
from cotrace.kernels.active import Sites

from ..progress import Progress
from ..tokens import as_index
from .changes import Changes, Feature, ablate, nodes_of
from .run import Prompt, Setting, outcomes
from .stream import HELD, Chunk, How

Key = tuple[int, int, int]  # layer, position and id of a feature
NEAREST = 10  # in size: among so many a control is drawn
GROUPS = (3, 10, 30)  # the most influential nodes together
DISTANCES = ((1, 1), (2, 2), (3, 3), (4, 6), (7, 99))  # layers between what is ablated and what is looked at
LEAST_FEATURES = 3  # of which a cosine says something
RESAMPLES, RESAMPLES_OF_PAIRS = 1000, 100
TINY = 1e-30  # of what writes nothing, so that its logarithm is there
FEWEST = 10  # values of which a correlation says something
LOGITS_AT_ONCE = 32  # rows, each of the whole vocabulary
ERRORS = 10  # error nodes, the most influential


@dataclass(frozen=True)
class Plan:
    """How much is measured. Raises ValueError for numbers that make no sense."""

    nodes: int = 60
    sample: int = 60
    controls: int = 3
    paths: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("nodes", 1), ("sample", 1), ("controls", 1), ("paths", 0), ("seed", 0)):
            if as_index(getattr(self, name), name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}; use at least {least}")


class Measured(NamedTuple):
    """What ablations did: K of them, T targets, N features of the graph."""

    target_KT: np.ndarray  # change of what each target reads
    kl_K: np.ndarray  # of the next token's probabilities, at the targets' last position
    feature_KN: np.ndarray  # change of activations; zero where they were not asked for


class Validator:
    """A graph, the prompt that it was made of, and the model: ablates sets of features and measures."""

    def __init__(self, prompt: Prompt, graph: Graph, how: Sequence[How]):
        self.prompt, self.graph, self.how = prompt, graph, how
        self.keys = feature_keys(graph)
        self.sites = [self._sites(layer) for layer in range(prompt.weights.architecture.n_layers)]
        self.targets = [_read_out(prompt, target) for target in graph.info["targets"]]
        self.weight_T = np.array([target["weight"] for target in graph.info["targets"]])
        self.position = max(target.position for target in self.targets)
        self.before = prompt.stream().read(prompt.ids_P[None])
        self.active, self.sizes = active_features(prompt, self.before)
        self.number = {key: n for n, key in enumerate(self.active)}
        missing = next((key for key in self.keys if key not in self.number), None)
        if missing is not None:
            raise ValueError(
                f"feature {missing[2]} of layer {missing[0]} at position {missing[1]} is in the graph and not active here; "
                "trace the prompt again on this device, in this dtype"
            )

    def _sites(self, layer: int) -> Sites:
        mine = [(position, feature) for at, position, feature in self.keys if at == layer]
        pairs_n2 = torch.tensor(mine, dtype=torch.long, device=self.prompt.ids_P.device).view(-1, 2)
        return Sites(*pairs_n2.T)

    def measure(
        self,
        removed: Sequence[Iterable[Any]],
        how: Sequence[How] | None = None,
        step: Any = None,
        features: bool = True,
    ) -> Measured:
        """Ablate each set of nodes by itself. Without `features` activations are looked at for targets only."""
        features = features or any(target.feature is not None for target in self.targets)
        how, parts = self.how if how is None else how, []
        held = any(h != How() for h in how)
        for start in range(0, len(removed), at_once := self.prompt.rows_at_once()):
            sets = removed[start : start + at_once]
            rows = [Changes({node: ablate() for node in nodes}, self.prompt.place) for nodes in sets]
            before, after = outcomes(self.prompt, rows, how) if held else (self.before, self._free(rows, how))
            parts.append(self._compare(before, after, len(sets), features, how))
            if step is not None:
                step(len(sets))
        return Measured(*(np.concatenate(column) for column in zip(*parts, strict=True)))

    def _free(self, rows: Sequence[Changes], how: Sequence[How]) -> Chunk:
        """The rows where nothing is held, so that one run without changes serves all."""
        error_layers = {layer for changes in rows for layer in changes.errors}
        return self.prompt.stream(how, rows, error_layers=error_layers).read(self.prompt.ids_P.expand(len(rows), -1))

    def _compare(self, before: Chunk, after: Chunk, n_rows: int, features: bool, how: Sequence[How]) -> Measured:
        feature_KN = np.zeros((n_rows, len(self.keys)))
        if features:
            feature_KN += self._activations(after, n_rows) - self._activations(before, len(before.resid_BPD))
        target_KT = np.stack([self._read(after, target) - self._read(before, target) for target in self.targets], 1)
        for column, target in enumerate(self.targets):
            if target.feature is not None:
                held = how[self.keys[target.feature][0]].mlp == HELD
                target_KT[:, column] = (
                    self._read_feature(before, after, target.feature) if held else feature_KN[:, target.feature]
                )
        return Measured(target_KT, self._kl(before, after), feature_KN)

    def _activations(self, chunk: Chunk, n_rows: int) -> np.ndarray:
        """Activations of the graph's features, (K, N)."""
        columns = []
        for active, mine in zip(chunk.active, self.sites, strict=True):
            row_K1 = torch.arange(n_rows, device=mine.position_n.device)[:, None] * len(self.prompt.ids_P)
            sites = Sites((row_K1 + mine.position_n).flatten(), mine.feature_n.repeat(n_rows))
            columns.append(active.of(sites, self.prompt.transcoders, self.prompt.weights).view(n_rows, -1))
        return torch.cat(columns, 1).double().cpu().numpy()

    def _read_feature(self, before: Chunk, after: Chunk, node: int) -> np.ndarray:
        """How much more a feature reads, of which nothing comes where activations are held, (K,)."""
        layer, position, feature = self.keys[node]
        position_K = (
            torch.arange(len(after.resid_BPD), device=self.prompt.ids_P.device) * len(self.prompt.ids_P) + position
        )
        sites = Sites(position_K, torch.full_like(position_K, feature))
        readers_KD = self.prompt.transcoders.readers(before.passes[layer], self.prompt.weights, sites)
        more_KD = (after.passes[layer].mlp_in_PD - before.passes[layer].mlp_in_PD)[position_K]
        return (more_KD * readers_KD).sum(-1).double().cpu().numpy()

    def _read(self, chunk: Chunk, target: "_ReadOut") -> np.ndarray:
        """What a target reads in every row, (K,)."""
        if target.direction_D is None:
            return np.zeros(len(chunk.resid_BPD))
        at = target.position
        normed_KD = self.prompt.weights.final_normed(chunk.resid_BPD[:, at], chunk.rms_BP[:, at])
        return (normed_KD @ target.direction_D).double().cpu().numpy()

    def _kl(self, before: Chunk, after: Chunk) -> np.ndarray:
        """KL(before ‖ after) of the next token at the targets' last position, (K,) in nats."""
        (before_V,) = self._log_probabilities(before, torch.arange(1))
        found = [
            (before_V.exp() * (before_V - self._log_probabilities(after, rows))).sum(-1)
            for rows in torch.arange(len(after.resid_BPD)).split(LOGITS_AT_ONCE)
        ]
        return torch.cat(found).cpu().numpy()

    def _log_probabilities(self, chunk: Chunk, rows: Tensor) -> Tensor:
        at = self.position
        return self.prompt.weights.logits(chunk.resid_BPD[rows, at], chunk.rms_BP[rows, at]).double().log_softmax(-1)

    def alike(self, nodes: Iterable[Key], random: np.random.Generator, taken: set[Key]) -> list[Key]:
        """As many other active features, each drawn from the ten nearest in size to a node, if it can be at its position."""
        drawn: list[Key] = []
        position_N = np.array([position for _, position, _ in self.active])
        free_N = np.array([key not in taken for key in self.active])
        for key in nodes:
            here_N = free_N & (position_N == key[1])
            candidates = np.flatnonzero(here_N if here_N.sum() >= NEAREST else free_N)
            if len(candidates) == 0:
                raise ValueError("the prompt has too few active features for controls; ablate fewer nodes")
            apart = np.abs(np.log(self.sizes[candidates] / self.sizes[self.number[key]]))
            chosen = int(random.choice(candidates[np.argsort(apart)[:NEAREST]]))
            free_N[chosen] = False
            drawn.append(self.active[chosen])
        return drawn

    def length(self, nodes: Iterable[Key]) -> float:
        """Length of all that features write, as if at right angles."""
        return float(np.sqrt(sum(self.sizes[self.number[key]] ** 2 for key in nodes)))


class _ReadOut(NamedTuple):
    """Where a target is read, and along what; a feature's number instead."""

    position: int
    direction_D: Tensor | None
    feature: int | None


def _read_out(prompt: Prompt, target: dict[str, Any]) -> _ReadOut:
    """How a target that a graph names is read. Raises ValueError for a direction, which no file holds."""
    weights, ids = prompt.weights, target.get("token_ids", [])
    position = target.get("position", len(prompt.ids_P) - 1)
    if target["kind"] == "feature":
        return _ReadOut(position, None, target["node"])
    if target["kind"] not in ("token", "difference") or not ids:
        raise ValueError(
            f"the graph's target {target['label']!r} is a {target['kind']}, which the file does not hold; "
            "validate a graph of tokens, differences or features"
        )
    rows = weights.unembedding(torch.tensor(ids, device=weights.device))
    return _ReadOut(position, rows[0] - (rows[1] if len(ids) > 1 else weights.mean_unembedding_D), None)


def feature_keys(graph: Graph) -> list[Key]:
    """Layer, position and id of a graph's features, in node order."""
    columns = (graph.column(name, -1)[graph.order.features].tolist() for name in ("layer", "position", "feature"))
    return list(zip(*columns, strict=True))


def active_features(prompt: Prompt, read: Chunk) -> tuple[list[Key], np.ndarray]:
    """All active features of a prompt that was read, and the length of all that each writes (N,)."""
    keys: list[Key] = []
    sizes = []
    for layer, (active, done, *_) in enumerate(read.active):
        feature_U, row_n = active.feature_n.unique(return_inverse=True)
        length_n = prompt.transcoders.decoders(layer, feature_U, prompt.weights).flatten(1).norm(dim=1)[row_n]
        scale_n = prompt.transcoders.write_scale(done, active.position_n)
        size_n = active.activation_n.abs() * length_n * (1 if scale_n is None else scale_n)
        keys += [(layer, *pair) for pair in zip(active.position_n.tolist(), active.feature_n.tolist(), strict=True)]
        sizes.append(size_n.double().clamp(min=TINY).cpu().numpy())
    return keys, np.concatenate(sizes)


def validate(
    prompt: Prompt, graph: Graph, setting: Setting, plan: Plan, groups: Mapping[str, Sequence[int]], progress: Progress
) -> dict[str, Any]:
    """Measure what the graph's most influential nodes do; see `Model.validate`."""
    how = setting.how(prompt.weights.architecture, prompt.transcoders)
    if setting.freeze == "all" and len(set(how)) > 1:
        raise ValueError('edges predict what all layers do: with freeze="all" leave layers= out')
    influence_M = graph.column("influence").astype(np.float64)
    targets = {target["node"] for target in graph.info["targets"]}  # what they read is measured
    features = [n for n in _ranked(influence_M, range(graph.order.n_features)) if n not in targets]
    errors = _ranked(influence_M, range(graph.order.errors.start, graph.order.errors.stop))[:ERRORS]
    top, random = features[: plan.nodes], np.random.default_rng(plan.seed)
    sample = set(random.choice(features, min(plan.sample, len(features)), replace=False).tolist() if features else [])
    others = sorted(sample - set(top))
    nodes = top + errors
    if not nodes:
        raise ValueError("the graph has no feature and no error node with influence; prune it less, or not at all")
    sets = {f"{count} most influential features": tuple(features[:count]) for count in GROUPS if count < len(features)}
    sets |= _checked_groups(groups, sets)
    paths = _feature_paths(graph, plan.paths, targets)
    validator = Validator(prompt, graph, how)
    everything: list[tuple[int, ...]] = [*((node,) for node in nodes), *sets.values(), *(path for path, _ in paths)]
    total = len(everything) * (1 + plan.controls) + len(others) + len(paths)
    with progress.phase("ablating", total) as step:
        alone: list[tuple[int, ...]] = [(node,) for node in others]
        chosen = validator.measure([nodes_of(graph, members) for members in everything + alone], step=step)
        controls = _controls(validator, everything, plan.controls, random, step)
        kept = _rest_kept(validator, paths, step)
    predicted = ablation_effects(graph, everything + alone, others_respond=setting.freeze != "all")
    table = _Table(validator, everything + alone, chosen, controls, predicted)
    end, last = len(nodes), len(nodes) + len(sets)
    places = [*zip(nodes, range(end), strict=True), *zip(others, range(len(everything), len(table.sets)), strict=True)]
    record: dict[str, Any] = {
        "settings": {**asdict(plan), "freeze": setting.freeze, "errors": setting.errors},
        "nodes": [
            {"node": n, "label": node_label(graph, n), "sampled": n in sample, **table.row(k)} for n, k in places
        ],
        "groups": [{"name": name, "nodes": list(sets[name]), **table.row(end + k)} for k, name in enumerate(sets)],
        "paths": [
            {"label": label, "nodes": list(path), **table.row(last + k), **kept[k]}
            for k, (path, label) in enumerate(paths)
        ],
        "later": _later(validator, nodes, chosen, predicted),
    }
    if setting.layers is not None:
        record["settings"]["layers"] = sorted(setting.layers)
    record["summary"] = summary(record, len(top), plan.seed)
    sources = [k for k, (node, _) in zip([k for _, k in places], places, strict=True) if node in sample]
    record["summary"]["spearman_pairs"] = _pairs(
        validator, [table.sets[k][0] for k in sources], chosen.feature_KN[sources]
    )
    return record


def _pairs(validator: Validator, sources: Sequence[int], moved_KN: np.ndarray) -> dict[str, float] | None:
    """Influence of features on later ones against the relative change of these when they are ablated."""
    graph = validator.graph
    features = graph.order.features
    influence_KN = pair_influence(graph, sources)[:, features]
    activation_N = np.abs(graph.column("activation")[features])
    found = [(i[i > 0], np.abs(m[i > 0]) / activation_N[i > 0]) for i, m in zip(influence_KN, moved_KN, strict=True)]
    found = [pair for pair in found if len(pair[0])]

    def correlation(pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> float:
        influence, effect = (np.concatenate(column) for column in zip(*pairs, strict=True))
        return float(spearmanr(influence, effect).statistic)

    if sum(len(influence) for influence, _ in found) < FEWEST or not any(effect.any() for _, effect in found):
        return None
    random = np.random.default_rng(0)  # sources are drawn again, with all that they reach
    drawn = (random.integers(0, len(found), len(found)) for _ in range(RESAMPLES_OF_PAIRS))
    again = [correlation([found[n] for n in one]) for one in drawn]
    low, high = np.nanquantile(again, (0.025, 0.975))
    return {"value": correlation(found), "low": float(low), "high": float(high)}


def _checked_groups(groups: Mapping[str, Sequence[int]], own: Iterable[str]) -> dict[str, tuple[int, ...]]:
    """Groups that users name. Raises ValueError for one without nodes, with a node twice, or with a name that is taken."""
    for name, members in groups.items():
        if not isinstance(members, Iterable) or not list(members):
            raise ValueError(f"the group {name!r} has no nodes; give a list with at least one, or leave the group out")
        if len(set(members)) < len(list(members)):
            raise ValueError(f"the group {name!r} names a node twice; name each once")
        if name in own:
            raise ValueError(f"{name!r} is what is ablated in any case; give the group another name")
    return {name: tuple(members) for name, members in groups.items()}


def _ranked(influence_M: np.ndarray, nodes: range) -> list[int]:
    """Nodes with influence, the most influential first."""
    return sorted((n for n in nodes if influence_M[n] > 0), key=lambda n: -influence_M[n])


def _feature_paths(graph: Graph, count: int, targets: set[int]) -> list[tuple[tuple[int, ...], str]]:
    """The features on the strongest paths that have any besides targets, each set of features once, with a name."""
    found: dict[tuple[int, ...], str] = {}
    for looked_at in (0,) if count == 0 else (4 * count, 32 * count, 256 * count):
        paths = strongest_paths(graph, count=looked_at)
        for path in paths:
            features = tuple(n for n in path.nodes if n < graph.order.n_features and n not in targets)
            if features:
                found.setdefault(features, " → ".join(node_label(graph, n) for n in path.nodes))
        if len(found) >= count or len(paths) < looked_at:
            break
    return list(found.items())[:count]


class Controls(NamedTuple):
    """What random features of the sizes of one set's features do, and how long what they write is beside its."""

    measured: Measured
    length: float


def _controls(
    validator: Validator, sets: Sequence[tuple[int, ...]], count: int, random: np.random.Generator, step: Any
) -> list[Controls | None]:
    """Of every set of features, none of which any set holds alone; None of sets of errors only."""
    n_features = validator.graph.order.n_features
    ablated = {validator.keys[members[0]] for members in sets if len(members) == 1 and members[0] < n_features}
    keys = [[validator.keys[n] for n in members if n < n_features] for members in sets]
    drawn = [validator.alike(own, random, ablated | set(own)) for own in keys for _ in range(count)]
    changes = [[Feature(layer, feature, position) for layer, position, feature in one] for one in drawn]
    measured = validator.measure(changes, step=step, features=False)
    found: list[Controls | None] = []
    for k, own in enumerate(keys):
        mine = slice(k * count, (k + 1) * count)
        lengths = [validator.length(one) for one in drawn[mine]]
        part = Measured(*(column[mine] for column in measured))
        found.append(Controls(part, float(np.mean(lengths) / validator.length(own))) if own else None)
    return found


def _rest_kept(validator: Validator, paths: Sequence[tuple[tuple[int, ...], str]], step: Any) -> list[dict[str, float]]:
    """What ablating a whole path does while all other features keep their activations, and what edges say it does."""
    if not paths:
        return []
    held = [How(mlp=HELD)] * len(validator.how)  # attention and norms respond: this is not true by construction
    sets = [path for path, _ in paths]
    measured = validator.measure([nodes_of(validator.graph, path) for path in sets], held, step, features=False)
    predicted_KT = _of_targets(validator, ablation_effects(validator.graph, sets, others_respond=False))
    return [
        {"kept_predicted": float(p @ validator.weight_T), "kept_measured": float(m @ validator.weight_T)}
        for p, m in zip(predicted_KT, measured.target_KT, strict=True)
    ]


def _of_targets(validator: Validator, change_KM: np.ndarray) -> np.ndarray:
    return change_KM[:, [target["node"] for target in validator.graph.info["targets"]]]


class _Table(NamedTuple):
    """Measured and predicted side by side, a row for each set of nodes."""

    validator: Validator
    sets: Sequence[tuple[int, ...]]
    chosen: Measured
    controls: Sequence[Controls | None]
    predicted_KM: np.ndarray

    def row(self, k: int) -> dict[str, Any]:
        """Signed effects are sums over targets by weight, sizes those of their absolute values."""
        weight_T = self.validator.weight_T
        influence = self.validator.graph.column("influence").astype(np.float64)
        predicted_T = _of_targets(self.validator, self.predicted_KM[[k]])[0]
        measured_T, controls = self.chosen.target_KT[k], self.controls[k] if k < len(self.controls) else None
        row = {
            "influence": float(influence[list(self.sets[k])].sum()),
            "predicted": float(predicted_T @ weight_T),
            "measured": float(measured_T @ weight_T),
            "size": float(np.abs(measured_T) @ weight_T),
            "kl": float(self.chosen.kl_K[k]),
        }
        if controls is None:
            return {**row, "control_size": None, "control_kl": None, "control_length": None}
        of_controls = np.abs(controls.measured.target_KT) @ weight_T
        return {
            **row,
            "control_size": float(of_controls.mean()),
            "control_kl": float(controls.measured.kl_K.mean()),
            "control_length": controls.length,
        }


def _later(
    validator: Validator, nodes: Sequence[int], chosen: Measured, predicted_KM: np.ndarray
) -> list[dict[str, Any]]:
    """How activations of later features change, against what the graph predicts, by distance in layers."""
    layer_M = validator.graph.column("layer", -1)
    layer_N = layer_M[validator.graph.order.features]
    found = []
    for least, most in DISTANCES:
        cosines, right, total = [], 0.0, 0.0
        for k, node in enumerate(nodes):
            distance = layer_N - layer_M[node]
            mine = (distance >= least) & (distance <= most)
            predicted, measured = predicted_KM[k, : len(layer_N)][mine], chosen.feature_KN[k][mine]
            right += np.abs(predicted[np.sign(predicted) == np.sign(measured)]).sum()
            total += np.abs(predicted).sum()
            lengths = np.linalg.norm(predicted) * np.linalg.norm(measured)
            if mine.sum() >= LEAST_FEATURES and lengths > 0:
                cosines.append(float(predicted @ measured / lengths))
        if cosines:
            agreement = float(right / total) if total else 0.0
            found.append(
                {
                    "least": least,
                    "most": most,
                    "nodes": len(cosines),
                    "cosine": float(np.mean(cosines)),
                    "signs": agreement,
                }
            )
    return found


def summary(record: dict[str, Any], n_top: int, seed: int) -> dict[str, Any]:
    """The numbers that say whether the graph is right, of a random sample of its features and of the most influential."""
    top, sample = record["nodes"][:n_top], [row for row in record["nodes"] if row["sampled"]]
    random = np.random.default_rng(seed)
    found: dict[str, Any] = {"features": n_top, "sample": len(sample)}
    for suffix, rows in (("", sample), ("_top", top)):
        names = ("influence", "size", "kl", "predicted", "measured")
        influence, size, kl, predicted, measured = (np.array([row[name] for row in rows]) for name in names)
        found[f"spearman{suffix}"] = _correlation(influence, size, random)
        found[f"spearman_kl{suffix}"] = _correlation(influence, kl, random)
        found[f"spearman_signed{suffix}"] = _correlation(predicted, measured, random)
        found[f"sign_agreement{suffix}"] = float((np.sign(predicted) == np.sign(measured)).mean()) if rows else None
    size, control = (np.array([row[name] for row in top]) for name in ("size", "control_size"))
    found["larger_than_controls"] = float((size > control).mean()) if n_top else None
    found["times_controls"] = float(np.median(size / np.maximum(control, TINY))) if n_top else None
    found["control_length"] = float(np.median([row["control_length"] for row in top])) if n_top else None
    return found


def _correlation(a: np.ndarray, b: np.ndarray, random: np.random.Generator) -> dict[str, float] | None:
    """Spearman's rank correlation with a 95% interval over resampled nodes; None of too few, or equal ones."""
    if len(a) < FEWEST or np.ptp(a) == 0 or np.ptp(b) == 0:
        return None
    drawn = random.integers(0, len(a), (RESAMPLES, len(a)))
    again = [float(spearmanr(a[i], b[i]).statistic) for i in drawn if np.ptp(a[i]) > 0 and np.ptp(b[i]) > 0]
    low, high = np.quantile(again, (0.025, 0.975))
    return {"value": float(spearmanr(a, b).statistic), "low": float(low), "high": float(high)}

"""Compare stated with internal reasoning: ledger, links, score, evidence and circuit of one transcript, as a report.

The steps, in order: one pass over the prompt chooses the targets; effects give the ledger and the links; live effects give
the score; edits give the evidence, and rules the verdict; a trace within a budget of rows gives the circuit.
"""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from cotrace.common.progress import Progress

from ..clear import CLEAR_HIGH, CLEAR_LOW
from ..evidence.collect import collect_evidence
from ..evidence.token_kinds import token_kind
from ..evidence.verdict import decide
from ..ledger.compute import compute_ledger
from ..ledger.internal_links import InternalLinks, find_internal_links, informative_size
from ..ledger.layout import CONSTANT, CONTENT, OWN, ROUTED
from ..ledger.ledger import Ledger
from ..ledger.live import LiveScore, compute_live_score
from ..ledger.prompt import StatedPrompt
from ..ledger.stated_links import StatedLink, find_stated_links
from ..report.report import Report
from ..transcripts import StatedTranscript, Transcript, state_values
from ..transcripts.stated_values import segment_text
from .circuit import TracingModel, trace_circuit
from .config import CompareConfig
from .link_nulls import link_null
from .tables import LINK_USED, links_table, segments_table, sources_table, steps_table


def compare(
    model: TracingModel, transcript: Transcript, config: CompareConfig | None = None, progress: bool | None = False
) -> Report:
    """Return the report of a transcript.

    Args:
        model: a `cotrace.Model`.
        transcript: has an answer that states a value, which `state_values` finds.
        config: options; None takes the defaults.
        progress: as in `Model.trace`.

    Raises:
        CotraceError: a transcript that cannot be analysed, or too little memory.
    """
    config, bars = config or CompareConfig(), Progress(progress)
    stated = state_values(transcript, model, config.alternatives)
    answer = stated.transcript.require_answer()
    foils = {} if config.foil is None else {answer.name: config.foil}
    prompt = StatedPrompt(model, stated, routed=[answer.name], foils=foils, memory=config.memory)
    with bars.phase("computing the ledger"):
        ledger = compute_ledger(prompt, through_qk=[answer.name])
        links = find_stated_links(stated.transcript)
        internal = find_internal_links(ledger, stated.transcript, links)
    with bars.phase("computing the score"):
        live = compute_live_score(prompt) if len(prompt.names) > 1 else None
    live_value, live_scores, mirrors = (None, {}, {}) if live is None else (live.value, live.steps, live.mirrors)
    with bars.phase("collecting evidence"):
        evidence = collect_evidence(model, stated, scores=live_scores, level=config.evidence, seed=config.seed)
    cites_hint = bool((internal.cites_hint_K > 0).any())
    verdicts = decide(evidence, _steps_before_answer(prompt, stated), live_scores, live_value, cites_hint)
    with bars.phase("tracing the circuit"):
        graph = trace_circuit(model, prompt, config.max_features, config.memory)
    texts = {each.name: segment_text(each, model.tokenizer) for each in stated.transcript.segments}
    rows = graph.info["traced"].get("rows", 0)
    return Report(
        verdicts.score,
        live_value,
        verdicts.verdict,
        verdicts.reason,
        segments_table(stated, texts, prompt.margins, ledger, prompt.decode),
        steps_table(stated, texts, ledger, answer.name, internal, mirrors, live_scores, verdicts.steps),
        sources_table(ledger, answer.name),
        links_table(internal, links, _nulls(prompt, ledger, internal, links), stated.transcript.segments),
        evidence.table,
        _cost(prompt, live, evidence.passes, rows),
        _settings(config) | evidence.settings,
        graph,
    )


def _steps_before_answer(prompt: StatedPrompt, stated: StatedTranscript) -> list[str]:
    """Return the names of the steps that begin before the answer's value is read."""
    return [each.name for each in stated.transcript.steps if stated.tokens.spans[each.name][0] < len(prompt.ids_P)]


def _nulls(
    prompt: StatedPrompt, ledger: Ledger, internal: InternalLinks, links: Sequence[StatedLink]
) -> dict[tuple[str, str], float | None]:
    """Return the null of each link between statements, and from question and hint."""
    kinds = [token_kind(prompt.decode(token)) for token in prompt.ids_P.tolist()]
    found: dict[tuple[str, str], float | None] = {}
    for layout, size_P in zip(prompt.layouts, np.abs(ledger.token_KP), strict=True):
        parts = {
            name.removeprefix(CONTENT): np.flatnonzero(layout.source_P == number).tolist()
            for number, name in enumerate(layout.sources)
        }
        cited = {link.source for link in links if link.statement == layout.name}
        given = {each.role for each in prompt.transcript.segments if each.name in cited}
        uncited = [p for name, part in parts.items() if name not in cited | given | {CONSTANT, OWN} for p in part]
        total = informative_size(ledger, layout.name)
        for source in [name for name in parts if name in {*internal.names, *ROUTED}]:
            others = sorted(set(uncited) - set(parts[source]))
            found[layout.name, source] = link_null(size_P, kinds, parts[source], others, total)
    return found


def _cost(prompt: StatedPrompt, live: LiveScore | None, evidence: float, rows: int) -> dict[str, float]:
    """Return the passes of all parts, and the rows of the circuit."""
    forward, backward = (1, 0) if live is None else (live.effects.forward_passes, live.effects.backward_passes)
    # The ledger takes the time of one pass for each suffix of the statements, credit through QK that of one more.
    backward += max(len(layout.cuts) for layout in prompt.layouts) + 1
    return {"forward": float(forward), "backward": float(backward), "evidence": evidence, "circuit_rows": float(rows)}


def _settings(config: CompareConfig) -> dict[str, Any]:
    """Return the options and limits that a report keeps."""
    kept = {name: value for name, value in asdict(config).items() if name not in ("alternatives", "memory")}
    return kept | {"thresholds": {"low": CLEAR_LOW, "high": CLEAR_HIGH, "link_used": LINK_USED}}

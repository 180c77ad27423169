"""Effects as text in a terminal: ledger, sums by segment or token, and the strongest nodes."""

from collections.abc import Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from cotrace.common.visible_text import quoted
from cotrace.graphs.effect_data import EffectData, Grouping

from . import report
from .report import print_line, shortened

TARGETS_DETAILED = 3  # in the order of the ledger
MAX_LEDGER_ROWS = 30
FREEZE_WORDS = {
    "all": "attention patterns, norm scales and active features are frozen: paths are linear",
    "norms": "norm scales and active features are frozen, attention responds",
    "attention": "attention patterns are frozen, norms and MLPs respond",
    "none": "nothing is frozen, the model responds",
}
INTEGRATE_WORDS = {
    "inputs": "averaged on the way from the baseline's tokens to the prompt's; the value is the change between the two",
    "ablation": "of the listed nodes, averaged along the ablation of each; they do not add up to the value",
}


def print_effects(effects: EffectData, group: Grouping, count: int, kind: str | None) -> None:
    """Print the ledger, and for its first rows the sums of a group and the `count` strongest nodes of a kind."""
    _print_facts(effects)
    ablated = effects.info["settings"].get("integrate") == "ablation"
    if not ablated:
        _print_ledger(effects)
    groups, nodes = effects.by(group).to_pylist(), effects.top(count, kind).to_pylist() if count else []
    for target in effects.targets[:TARGETS_DETAILED]:
        if not ablated:
            _print_groups(effects, [row for row in groups if _is_of(row, target)], group, count)
        _print_nodes(effects, [row for row in nodes if _is_of(row, target)], target)
    left_out = len(effects.targets) - TARGETS_DETAILED
    if left_out > 0:
        print_line(f"… and {left_out:,} more rows of the ledger: choose targets with --target, or use --json or --out")


def _is_of(row: dict[str, Any], target: dict[str, Any]) -> bool:
    return (row["target"], row.get("avoiding", "")) == (target["target"], target["avoiding"])


def _print_facts(effects: EffectData) -> None:
    info, settings = effects.info, effects.info["settings"]
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="bold")
    facts.add_column(overflow="fold")
    facts.add_row("prompt", Text(shortened(info["prompt"])))
    facts.add_row("model", Text(quoted(f"{info['model']['name']} with {info['transcoders']['name']}")[1:-1]))
    freeze, integrate = settings.get("freeze"), settings.get("integrate")
    order = ": at first order" if freeze != "all" and integrate is None else ""
    facts.add_row("effects", f"{FREEZE_WORDS.get(str(freeze), '')}{order}")
    if str(integrate) in INTEGRATE_WORDS:
        facts.add_row("", INTEGRATE_WORDS[str(integrate)])
    for name, positions in effects.segments.items():
        facts.add_row("segment", Text(f"{quoted(name)}: {_text_of(info['tokens'], positions)}"))
    report.console.print(facts)


def _text_of(tokens: Sequence[str], positions: Sequence[int]) -> str:
    """Return the tokens at some positions, with the first and last position."""
    ends = f"{positions[0]}" if len(positions) == 1 else f"{positions[0]} … {positions[-1]}"
    return f"{ends} {shortened(''.join(tokens[position] for position in positions), 60)}"


def _print_ledger(effects: EffectData) -> None:
    ledger = effects.ledger
    has_cuts = any(ledger["avoiding"].to_pylist())
    names = ["value", "tokens", "errors", "bias", "remainder", "cancellation"]
    headers = ["target", *(["avoiding"] if has_cuts else []), "position", *names]
    table = Table(*headers, title="ledger", title_justify="left", box=None)
    for row in ledger.slice(0, MAX_LEDGER_ROWS).to_pylist():
        cut = [Text(quoted(row["avoiding"]) if row["avoiding"] else "")] if has_cuts else []
        numbers = ("" if row[name] is None else _number(row[name]) for name in names[:-1])
        ratio = "" if row["cancellation"] is None else f"{row['cancellation']:.2f}"
        table.add_row(Text(quoted(row["label"])), *cut, str(row["position"]), *numbers, ratio)
    report.console.print(table)
    if len(ledger) > MAX_LEDGER_ROWS:
        print_line(f" … and {len(ledger) - MAX_LEDGER_ROWS:,} more")


def _print_groups(effects: EffectData, rows: list[dict[str, Any]], group: Grouping, count: int) -> None:
    """Print the sums of a target's groups; of many tokens those with the largest effects, in their order."""
    columns = [name for name in ("tokens", "errors", "features", "through_qk") if name in rows[0]]
    if group in ("token", "position"):
        there = [row for row in rows if any(row[name] for name in columns)]
        strongest = sorted(there, key=lambda row: -abs(row["tokens"] + row["errors"]))[:count]
        rows = sorted(strongest, key=lambda row: row["position"])
    if not rows:
        return
    print_line(f"{_about(effects, rows[0])}, by {group}")
    table = Table(group, *(name.replace("through_qk", "through QK") for name in columns), box=None)
    for row in rows:
        table.add_row(Text(_group_name(row, group)), *(_number(row[name]) for name in columns))
    report.console.print(table)


def _group_name(row: dict[str, Any], group: Grouping) -> str:
    if group == "token":
        return f"{quoted(row['token'])}@{row['position']}"
    if group == "layer":
        return "tokens" if row["layer"] is None else f"layer {row['layer']}"
    return str(row[group])


def _print_nodes(effects: EffectData, rows: list[dict[str, Any]], target: dict[str, Any]) -> None:
    if not rows:
        return
    credit = ["through QK"] if "through_qk" in rows[0] else []
    print_line(f"strongest nodes, {_about(effects, target)}")
    table = Table("node", "effect", *credit, box=None)
    for row in rows:
        text = f" {quoted(row['text'])}" if row["text"] else ""
        table.add_row(
            Text(f"{row['node']}{text}"), _number(row["effect"]), *([_number(row["through_qk"])] if credit else [])
        )
    report.console.print(table)


def _about(effects: EffectData, row: dict[str, Any]) -> str:
    """Return what a table is about: a target, its position if targets are at several, and the cut."""
    position = next(target["position"] for target in effects.targets if target["target"] == row["target"])
    several = len({target["position"] for target in effects.targets}) > 1
    cut = f", avoiding {quoted(row['avoiding'])}" if row.get("avoiding") else ""
    return f"effects on {quoted(row['label'])}{f' at {position}' if several else ''}{cut}"


def _number(value: float) -> str:
    return f"{value:+.3f}" if abs(value) < 1000 else f"{value:+.4g}"


def as_json(effects: EffectData, group: Grouping, count: int, kind: str | None) -> dict[str, Any]:
    """Return what the command prints, for all targets, with the metadata as `info`, as values that JSON can hold."""
    return {
        "info": effects.info,
        "targets": effects.targets,
        "ledger": effects.ledger.to_pylist(),
        "by": {group: effects.by(group).to_pylist()},
        "nodes": effects.top(count, kind).to_pylist() if count else [],
    }

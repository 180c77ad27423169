"""A user's script whose types are checked: pyright must report nothing, and no public call may return Any."""

from pathlib import Path
from typing import assert_type

import cotrace
from cotrace import (
    BatchSummary,
    CotraceError,
    Donor,
    Edit,
    Effects,
    ErrorNode,
    Feature,
    Generation,
    Graph,
    InterventionResult,
    Model,
    PatchResult,
    Report,
    Segment,
    Supernode,
    Swap,
    Token,
    TokenReplacement,
    TracePlan,
    Transcript,
)
from cotrace.faithfulness.transcripts import TokenizedTranscript, last_number


def trace(model: Model) -> Graph:
    """Trace with targets of every kind."""
    plan = model.plan("The opposite of hot is", coverage=0.9)
    assert_type(plan, TracePlan)
    graph = model.trace("The opposite of hot is", [" cold", 1234, (" cold", " hot"), Feature(17, 264, position=5)])
    assert_type(graph, Graph)
    assert_type(model.trace([2, 3, 4], "next", position=range(1, 3)), Graph)
    assert_type(model.trace([{"role": "user", "content": "Hello"}], memory=2**33), Graph)
    return graph


def read(graph: Graph) -> float:
    """Prune, score, save and open again."""
    circuit = graph.prune(node_threshold=0.7, keep_errors=True)
    assert_type(circuit, Graph)
    assert_type(circuit.save("circuit.arrow"), Path)
    assert_type(circuit.render("circuit.svg"), Path)
    assert_type(cotrace.open("circuit.arrow"), Graph | Report)
    assert_type(Report.open("report.arrow"), Report)
    scores = circuit.scores()
    assert_type(scores.replacement, float)
    return scores.replacement + scores.completeness


def steer(model: Model, graph: Graph) -> str:
    """Intervene, generate, patch and validate."""
    feature = Feature(17, 264, position=5)
    edits = {feature: cotrace.ablate()}
    assert_type(edits, dict[Feature, Edit])
    result = model.intervene("The opposite of hot is", edits, freeze="attention")
    assert_type(result, InterventionResult)
    assert_type(result.kl(), float)
    mixed = {feature: cotrace.set_to(2.0), ErrorNode(3): cotrace.multiply(0.5), Supernode([feature]): cotrace.add(1)}
    replaced = {Token(4): cotrace.replace_with(" cold", 1234, Token(2))}
    assert_type(replaced, dict[Token, TokenReplacement])
    assert_type(model.intervene("Hot", {**replaced, Token(3): cotrace.ablate()}), InterventionResult)
    several = model.intervene_many("The opposite of hot is", [edits, edits])
    assert_type(several, list[InterventionResult])
    assert_type(model.intervene("Hot", mixed), InterventionResult)
    donor = Donor((1, 4), "The opposite of big is", "keys", layers=[1, 2])
    assert_type(model.intervene("The opposite of hot is", [Swap(4, " big"), donor, edits]), InterventionResult)
    runs = model.intervene_many(
        "Hot", [donor, [Swap((1, 2), [5]), edits]], segments={"all": (0, 2)}, regenerate="later"
    )
    assert_type(runs[0].edited_token_ids, list[int])
    generation = model.generate("The opposite of hot is", edits, max_new_tokens=3)
    assert_type(generation, Generation)
    assert_type(model.generate_many(["Hot", "Cold"]), list[Generation])
    patched = model.patch("It is hot", "It is wet", [feature, ErrorNode(3, position=2), Token(2)])
    assert_type(patched, PatchResult)
    assert_type(patched.recovered(" cold"), float)
    assert_type(model.validate(graph, nodes=10, groups={"mine": [1, 2]}), Graph)
    return generation.text


def reason(model: Model) -> list[int]:
    """Make transcripts, change, save and open them, and use them as prompts."""
    segments = [("question", "2 + 3?"), ("step", " It is 5.", "", "5"), Segment("answer", " So 5", value="5")]
    transcript = Transcript(segments, values=["4", "5"])
    assert_type(transcript["step"], Segment)
    assert_type(transcript.steps, tuple[Segment, ...])
    assert_type(transcript.with_value("step", "4").with_text("answer", " So 4", "4").until("answer"), Transcript)
    assert_type(Transcript.from_chat([{"role": "user", "content": "2 + 3?"}]).find_values(last_number), Transcript)
    assert_type(Transcript.from_marked("<step>It is <value>5</value></step>").to_marked(), str)
    assert_type(transcript.save("chain.json"), Path)
    assert_type(Transcript.open("chain.json").to_json(), str)
    assert_type(Transcript.from_json("[]"), Transcript)
    tokens = transcript.tokenize(model)
    assert_type(tokens, TokenizedTranscript)
    assert_type(tokens.read_position("answer"), int)
    assert_type(model.effects(transcript, [("5", "4")], avoiding="step"), Effects)
    assert_type(model.generate(transcript.until("step")), Generation)
    return tokens.value_ids("answer")


def main() -> None:
    """Call everything that users call."""
    model = cotrace.load("gemma-3-270m", device="cpu", row_cache_bytes=2**30)
    assert_type(model, Model)
    try:
        graph = trace(model)
    except CotraceError as error:
        print(error)
        return
    print(read(graph), steer(model, graph), reason(model))
    summary = cotrace.trace_many(["Hot", {"id": "cold", "prompt": "Cold"}], "traces", model=model, coverage=0.9)
    assert_type(summary, BatchSummary)
    assert_type(summary.traced, int)


if __name__ == "__main__":
    main()

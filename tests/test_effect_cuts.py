"""Segments of a prompt, and cuts: every way to write them, and every mistake."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cotrace.attribution.effects.cuts import NO_CUT, Cut, check_targets, parse_cuts, parse_segments
from cotrace.common.errors import ArgumentError

N = 12
SEGMENTS = {"question": (1, 2, 3), "step 1": (4, 5, 6), "answer": (10, 11)}


def refusal(call, *arguments):
    """Return the one line with which a call is refused."""
    with pytest.raises(ArgumentError) as caught:
        call(*arguments)
    (line,) = str(caught.value).splitlines()
    return line


# --- segments -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("span", "positions"),
    [
        ((1, 4), (1, 2, 3)),
        ((0, 12), tuple(range(12))),
        ((-3, -1), (9, 10)),
        ((-3, 0), (9, 10, 11)),
        ((10, None), (10, 11)),
        ((None, 2), (0, 1)),
        ((1, -9), (1, 2)),
        ((np.int64(1), np.int32(3)), (1, 2)),
        (slice(1, 4), (1, 2, 3)),
        (slice(1, 8, 3), (1, 4, 7)),
        (slice(-2, None), (10, 11)),
        (range(1, 4), (1, 2, 3)),
        (range(5, 1, -2), (3, 5)),
        ([7, 2], (2, 7)),
        ([-1, 0], (0, 11)),
        (np.array([3, 1]), (1, 3)),
        ({4, 3}, (3, 4)),
    ],
)
def test_spans_are_half_open_and_count_from_both_ends(span, positions):
    assert parse_segments({"a": span}, N) == {"a": positions}


@settings(deadline=None)
@given(st.integers(1, 30), st.data())
def test_a_span_is_what_a_slice_is(n, data):
    start = data.draw(st.integers(-n, n - 1))
    stop = data.draw(st.integers(1, n) | st.integers(-n, -1))
    expected = tuple(range(n)[start:stop])
    if expected:
        assert parse_segments({"a": (start, stop)}, n) == {"a": expected}
    else:
        assert "is empty" in refusal(parse_segments, {"a": (start, stop)}, n)


def test_no_segments_are_an_empty_dict():
    assert parse_segments(None, N) == parse_segments({}, N) == {}


@pytest.mark.parametrize(
    ("span", "words"),
    [
        ((1, 13), "segment 'a' (1, 13) is outside the prompt of 12 tokens"),
        ((-13, 3), "outside the prompt"),
        ((12, 13), "outside the prompt"),
        ([12], "position 12 is outside the prompt"),
        (range(10**15), "outside the prompt"),
        (range(3, 10**15), "outside the prompt"),
        ((3, 3), "is empty"),
        ((4, 2), "is empty"),
        ((12, 12), "is empty"),
        (slice(4, 2), "is empty"),
        (slice(4, 2, -1), "is empty"),
        (range(0), "is empty"),
        ([], "is empty"),
        ((), "a tuple is a span (start, stop)"),
        ((1, 2, 3), "a tuple is a span (start, stop)"),
        ([3, 3], "names a position twice"),
        ([3, -9], "names a position twice"),
        (5, "expected (start, stop)"),
        ("1:3", "expected (start, stop)"),
        (None, "expected (start, stop)"),
        ({1: 2}, "expected (start, stop)"),
        (np.ones((2, 2), int), "expected (start, stop)"),
        ((1.0, 3.0), "both must be integers"),
        (("a", "b"), "both must be integers"),
        ([1.5], "must be an integer"),
        ([True, False], "must be an integer"),
        (["a"], "must be an integer"),
    ],
)
def test_invalid_spans_are_refused(span, words):
    line = refusal(parse_segments, {"a": span}, N)
    assert words in line
    assert "segment 'a'" in line


@pytest.mark.parametrize(
    ("segments", "words"),
    [
        ({"other": (1, 2)}, "'other', which names the positions outside every segment"),
        ({"none": (1, 2)}, "'none', which means no cut"),
        ({"3": (1, 2)}, "reads as a position"),
        ({"2:5": (1, 2)}, "reads as a position"),
        ({"": (1, 2)}, "expected a text"),
        ({" ": (1, 2)}, "expected a text"),
        ({3: (1, 2)}, "expected a text"),
        ({"a": (1, 5), "b": (4, 6)}, "position 4 is in the segments 'a' and 'b'"),
        ([("a", (1, 2))], "expected spans by name"),
        ("question", "expected spans by name"),
    ],
)
def test_invalid_segments_are_refused(segments, words):
    assert words in refusal(parse_segments, segments, N)


# --- cuts -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("avoiding", "cuts"),
    [
        (None, [NO_CUT]),
        (5, [Cut("5", (5,))]),
        (-1, [Cut("11", (11,))]),
        (np.int64(5), [Cut("5", (5,))]),
        ((2, 5), [Cut("2:5", (2, 3, 4))]),
        (slice(2, 5), [Cut("2:5", (2, 3, 4))]),
        (range(2, 5), [Cut("2:5", (2, 3, 4))]),
        ("question", [Cut("question", (1, 2, 3))]),
        ([3, 5, 4, 8], [Cut("3:6,8", (3, 4, 5, 8))]),
        (np.array([8, 3]), [Cut("3,8", (3, 8))]),
        ([None], [NO_CUT]),
        ([None, "question", 5], [NO_CUT, Cut("question", (1, 2, 3)), Cut("5", (5,))]),
        ([(1, 3), (5, 8)], [Cut("1:3", (1, 2)), Cut("5:8", (5, 6, 7))]),
        ([[1, 2], [5]], [Cut("1:3", (1, 2)), Cut("5", (5,))]),
        ([["question", 5]], [Cut("question + 5", (1, 2, 3, 5))]),
        ([["question", (2, 6)], "answer"], [Cut("question + 2:6", (1, 2, 3, 4, 5)), Cut("answer", (10, 11))]),
        ([["question", "step 1"], None], [Cut("question + step 1", (1, 2, 3, 4, 5, 6)), NO_CUT]),
    ],
)
def test_cuts_are_positions_spans_segments_or_lists_of_them(avoiding, cuts):
    assert parse_cuts(avoiding, SEGMENTS, N) == cuts


@pytest.mark.parametrize(
    ("avoiding", "words"),
    [
        ("steps", "no segment has this name; the segments are 'question', 'step 1', 'answer'"),
        (["question", "steps"], "avoiding='steps'"),
        ([["steps"]], "avoiding='steps'"),
        ([], "avoiding is an empty list"),
        ([[]], "an empty cut"),
        ((5, 5), "is empty"),
        ([(5, 5)], "is empty"),
        (range(0), "is empty"),
        (12, "position 12 is outside the prompt"),
        ((4, 30), "avoiding (4, 30) is outside the prompt of 12 tokens"),
        ([3, 12], "position 12 is outside the prompt"),
        ([3, 3], "names a position twice"),
        (["question", (1, 4)], "the same positions twice, 'question' and '1:4'"),
        ([5, [5], None], "the same positions twice"),
        ([None, None], "the same positions twice"),
        (True, "must be an integer"),
        ([True], "must be an integer"),
        (2.5, "must be an integer"),
        ([2.5, 3], "must be an integer"),
        ({"a": 1}, "must be an integer"),
        ((1, 2, 3), "a tuple is a span (start, stop)"),
        (("question", "answer"), "both must be integers"),
        ([[["question"]]], "must be an integer"),
    ],
)
def test_invalid_cuts_are_refused(avoiding, words):
    assert words in refusal(parse_cuts, avoiding, SEGMENTS, N)


def test_an_unknown_segment_without_any_says_so():
    assert "there are no segments" in refusal(parse_cuts, "question", {}, N)


def test_a_cut_may_not_contain_the_position_of_a_target():
    cuts = parse_cuts([None, "question", "answer"], SEGMENTS, N)
    check_targets(cuts, [0, 9])
    line = refusal(check_targets, cuts, [9, 11])
    assert "'answer' contains position 11, where a target is read" in line
    assert "'3' contains position 3" in refusal(check_targets, parse_cuts(3, {}, N), [3])


def test_cuts_and_segments_need_no_torch():
    code = "import sys, cotrace.attribution.effects.cuts; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

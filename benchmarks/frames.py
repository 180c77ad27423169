"""Script time of the frames of a page, and its longest task, from a trace of Chromium."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

CATEGORIES = ["devtools.timeline", "disabled-by-default-devtools.timeline", "toplevel", "v8.execute"]
SETTLE_MS = 1_000  # after the trace begins, which itself takes the page some time
BEFORE_US = 100_000  # a frame's task begins before its script
SCRIPT = {"FunctionCall", "EvaluateScript", "RunMicrotasks", "TimerFire", "FireAnimationFrame", "EventDispatch"}
TASKS = {"RunTask", "ThreadControllerImpl::RunTask"}

Event = dict[str, Any]


@dataclass(frozen=True)
class FrameTimes:
    """What a page spent on its main thread while something was done with it, in seconds."""

    script: np.ndarray
    """Processor time in scripts for each frame, (F,)."""
    longest_task: float
    """Wall time of the longest task, with everything that the browser itself does in it."""
    longest_task_busy: float
    """Processor time of the task that took most of it: without waiting for a core."""


def record_frames(browser: Any, page: Any, act: Callable[[], None]) -> FrameTimes:
    """Return the times of the frames while `act` runs."""
    browser.start_tracing(page=page, categories=CATEGORIES)
    page.wait_for_timeout(SETTLE_MS)
    act()
    events = json.loads(browser.stop_tracing())["traceEvents"]
    main = _main_thread(events)
    own = sorted((each for each in events if each["ph"] == "X" and _thread(each) == main), key=_start)
    frames = [each["ts"] for each in own if each["name"] == "FireAnimationFrame"]
    tasks = [each for each in own if each["name"] in TASKS and frames[0] - BEFORE_US < each["ts"] < frames[-1]]
    return FrameTimes(
        _script_seconds(own),
        max(each["dur"] for each in tasks) / 1e6,
        max(each.get("tdur", 0) for each in tasks) / 1e6,
    )


def _main_thread(events: list[Event]) -> tuple[int, int]:
    """Return the main thread of the page: the one of a renderer with most frames."""
    names = {_thread(each): each["args"]["name"] for each in events if each.get("name") == "thread_name"}
    frames = [_thread(each) for each in events if each.get("name") == "FireAnimationFrame"]
    return max((thread for thread, name in names.items() if name == "CrRendererMain"), key=frames.count)


def _script_seconds(events: list[Event]) -> np.ndarray:
    """Return the time in outermost scripts from each frame to the next one."""
    starts = [each["ts"] for each in events if each["name"] == "FireAnimationFrame"]
    seconds, end = np.zeros(len(starts) + 1), 0.0
    for each in events:
        if each["name"] in SCRIPT and each["ts"] >= end:
            end = each["ts"] + each["dur"]
            seconds[np.searchsorted(starts, each["ts"], side="right")] += each.get("tdur", each["dur"]) / 1e6
    return seconds[1:]


def _thread(event: Event) -> tuple[int, int]:
    return event["pid"], event["tid"]


def _start(event: Event) -> float:
    return event["ts"]

"""Prompts from a file or standard input, and error messages that name options as they are typed."""

import io
import sys

import pytest
from helpers.cli import MODEL, run

from cotrace.cli.command import name_options
from cotrace.cli.prompt_source import read_prompt
from cotrace.common.errors import ArgumentError, CotraceError, FileError, PromptError


@pytest.fixture
def standard_input(monkeypatch):
    """Return a function that sets the bytes of standard input."""
    return lambda content: monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"The sky is", "The sky is"),
        (b"The sky is\n", "The sky is"),
        (b"The sky is\r\n", "The sky is"),
        (b"The sky is\n\n", "The sky is\n"),
        (b"The sky is \n", "The sky is "),
        (b"\xef\xbb\xbfThe sky is", "The sky is"),
        ("– «é» 👩‍🔬\u2028".encode(), "– «é» 👩‍🔬\u2028"),
        (b"-", "-"),
        (b"x" * 10**6, "x" * 10**6),
    ],
)
def test_a_file_and_standard_input_are_read_as_they_are(content, text, tmp_path, standard_input):
    file = tmp_path / "prompt.txt"
    file.write_bytes(content)
    assert read_prompt(None, file) == text
    for prompt, path in (("-", None), (None, "-")):
        standard_input(content)
        assert read_prompt(prompt, path) == text


@pytest.mark.parametrize(("content", "message"), [(b"", "is empty"), (b"\n", "is empty"), (b"ab\xff", "byte 2")])
def test_text_that_is_no_prompt_is_refused(content, message, tmp_path, standard_input):
    standard_input(content)
    with pytest.raises(PromptError, match=message):
        read_prompt("-", None)


def test_files_that_cannot_be_read_are_refused(tmp_path):
    for path in (tmp_path / "missing.txt", tmp_path):
        with pytest.raises(FileError, match="--prompt-file"):
            read_prompt(None, path)


def test_a_prompt_comes_from_one_place(tmp_path):
    for prompt, path in ((None, None), ("x", tmp_path)):
        with pytest.raises(ArgumentError, match="PROMPT, or --prompt-file FILE"):
            read_prompt(prompt, path)


@pytest.mark.parametrize("name", ["trace", "steer"])
@pytest.mark.parametrize("prompt", ["-1 + 2 =", "- a list", "--- rule", "-x", "--hot is", "--help me"])
def test_a_prompt_that_starts_with_a_dash_gets_advice(command, name, prompt):
    status, out, error = command(name, prompt)
    assert (status, out) == (2, "")
    assert f"cotrace {name} [OPTIONS] -- " in " ".join(error.split())


def test_a_misspelt_option_gets_the_likely_ones(command):
    error = command("trace", "x", "--max-feature", "3")[2]
    assert "--max-features" in error
    assert " -- " not in error


FLAGS = {
    "max_features": "--max-features",
    "memory": "--memory",
    "freeze": "--freeze",
    "set_to": "--set",
    "generate": "--generate",
}


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("use max_features=2000 or less, or memory=", "use --max-features 2000 or less, or --memory"),
        ("allow more with memory=, or shorten", "allow more with --memory, or shorten"),
        ('use freeze="attention" or freeze="all"', "use --freeze attention or --freeze all"),
        ("freeze='odd' is not one of none, attention", "--freeze odd is not one of none, attention"),
        ("max_features=[1], memory=-1 or max_features=0.5", "--max-features [1], --memory -1 or --max-features 0.5"),
        ("max_features is -1: it must be at least 0", "--max-features is -1: it must be at least 0"),
        ("memory is 0: too little memory is free", "--memory is 0: too little memory is free"),
        ("lower max_features; set_to edits", "lower --max-features; --set edits"),
        ("the column 'max_features' is unknown", "the column 'max_features' is unknown"),
        ("let the model write it with generate=True", "let the model write it with --generate"),
        ("prompt is odd; x_memory=3", "prompt is odd; x_memory=3"),
    ],
)
def test_messages_name_options_as_they_are_typed(message, shown):
    assert name_options(message, FLAGS) == shown


def test_python_names_its_own_options_and_the_command_line_its_own(command, monkeypatch):
    def fail(*arguments, **options):
        raise CotraceError("compute fewer rows with max_features=200 or coverage=")

    monkeypatch.setattr("cotrace.load", fail)
    assert command("trace", "x")[2] == "error: compute fewer rows with --max-features 200 or --coverage\n"


def test_a_long_prompt_is_traced_from_standard_input(tmp_path):
    result = run("trace", "-", *MODEL, "--out", tmp_path, "--dry-run", input="hot " * 50)
    assert result.returncode == 0, result.stderr
    assert "tokens" in result.stdout

"""Run a model with nodes or spans of a prompt edited, and compare it with the run without edits.

Edits that users write are in `edits.py` and, of spans, in `span_edits.py`; `edit_plan.py` resolves them for one prompt;
`forward.py` runs the model with them, `donors.py` with values of other prompts. `intervene.py`, `generate.py` and `patch.py` are
what `cotrace.Model` calls.
"""

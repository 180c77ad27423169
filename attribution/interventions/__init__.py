"""Run a model with features, error nodes, tokens or directions edited, and compare it with the run without edits.

Edits that users write are in `edits.py`; `edit_plan.py` resolves them for one prompt; `forward.py` runs the model with
them. `intervene.py`, `generate.py` and `patch.py` are what `cotrace.Model` calls.
"""

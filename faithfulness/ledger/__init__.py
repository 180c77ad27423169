"""The ledger of a transcript: where each stated value comes from, links between statements, and a score without edits.

- `layout`: sources of tokens as a target sees them, and cuts that tell their routes apart.
- `margins`: stated values as targets.
- `prompt`: a transcript that went through a model once.
- `ledger`, `compute`: cells that add up to a target.
- `stated_links`, `internal_links`: which statements a text cites, and which ones the model uses.
- `live`: effects of written values in the live model, and the score.
"""

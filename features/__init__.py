"""The feature store: what each feature of a dictionary responds to, what it promotes, and its label.

`features.store` reads stores and needs no torch; `features.build` makes them.
"""

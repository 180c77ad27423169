"""The command line: one file for each command; `app.py` registers them."""

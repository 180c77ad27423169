"""The hot operations: encode, decode and edge rows, each in a folder with an `api` and several backends.

This room imports only `common`. It is imported as `cotrace.kernels`. A well-known library is also called `kernels`, and
transformers imports it if it is found. In a process started from the repository's root, Python finds this file under
that name; it then loads the library in its place.
"""

if __name__ == "kernels":
    import importlib.machinery
    import importlib.util
    import pathlib
    import sys

    _here = pathlib.Path(__file__).resolve().parent.parent
    _elsewhere = [path for path in sys.path if pathlib.Path(path or ".").resolve() != _here]
    _spec = importlib.machinery.PathFinder.find_spec("kernels", _elsewhere)
    if _spec is not None and _spec.loader is not None:
        sys.modules["kernels"] = importlib.util.module_from_spec(_spec)
        _spec.loader.exec_module(sys.modules["kernels"])

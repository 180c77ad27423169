"""The engine's hot operations: one folder each, one public function each, several implementations.

This room imports no other room. It is installed as `cotrace.kernels`; a well-known library is
called `kernels` too and transformers imports it when it finds one, so in a process started from the
repository's root this file may be found under that name. It then steps aside for the library.
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

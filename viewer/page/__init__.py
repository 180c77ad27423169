"""From graphs to one HTML file that opens offline. Imports no torch.

- `payload`: the parts of a page: graph files and JSON beside them.
- `link`: ES modules as one script.
- `html`: the parts, scripts and style sheets as one document with a Content-Security-Policy.
"""

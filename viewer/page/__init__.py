"""From graphs to one HTML file that opens offline. Imports no torch.

- `pages`: pages of graphs, reports and differences, as files, in notebooks and for the server.
- `cards`, `report_payload`, `diff_payload`: what is shown beside a graph, as JSON; `still`: a picture.
- `fit`: graphs that are too large.
- `payload`: the parts of a page: graph files and JSON.
- `link`: ES modules as one script.
- `html`: the parts, scripts and style sheets as one document with a Content-Security-Policy.
"""

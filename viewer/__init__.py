"""The page: a circuit in one HTML file, and the local server of `cotrace view`.

- `page/`: from graphs to one HTML file that opens offline.
- `server/`: serves the same page on this machine, with saving and edits of the model.
- `js/`, `css/`: plain ES modules and style sheets, which `page/link.py` and `page/html.py` put into the file.
- `vendor/`: apache-arrow, which reads and writes the graph file in the browser.
"""

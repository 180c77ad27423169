"""Pictures of attribution graphs: SVG with the standard library alone; DOT, PNG and PDF with Graphviz."""

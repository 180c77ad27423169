"""The faithfulness circuit: a report as one picture, in SVG, DOT, PNG, PDF or HTML. Imports no torch."""

"""Trace prompts to attribution graphs, and test graphs with interventions in the model."""

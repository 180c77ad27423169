"""Transcripts: prompts whose segments have roles, such as question, step and answer."""

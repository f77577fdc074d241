"""Artifacts in use: load one, run it, measure it."""

"""Engines: where jobs are trained. Each takes the text of an experiment and leaves a run directory."""

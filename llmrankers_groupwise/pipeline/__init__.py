"""A whole run: a first stage in, a run file, its manifest and a summary out."""

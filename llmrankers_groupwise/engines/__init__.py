"""Engines answer requests; each lives in a module of its own, imported when first used."""

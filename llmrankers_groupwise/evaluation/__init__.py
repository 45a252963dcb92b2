"""Measures, tests of significance, and runs compared."""

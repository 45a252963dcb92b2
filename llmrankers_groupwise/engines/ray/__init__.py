"""Copies of an engine in Ray workers."""

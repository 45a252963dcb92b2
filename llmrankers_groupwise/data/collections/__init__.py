"""Test collections by name, prepared as folders."""

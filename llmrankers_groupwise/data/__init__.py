"""Runs, queries, relevance judgements, passages and test collections."""

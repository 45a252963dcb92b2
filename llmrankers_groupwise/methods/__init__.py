"""Reranking methods: short asynchronous functions that ask and rank."""

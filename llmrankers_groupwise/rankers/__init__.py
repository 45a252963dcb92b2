"""The interface of llm-rankers over a method, an engine and a journal."""

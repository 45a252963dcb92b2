"""Language models by vLLM."""

"""Training rerankers. Importing a part of it needs neither PyTorch nor TRL."""

"""What engines of language models share: prompts, tokens, dialogues, forms."""

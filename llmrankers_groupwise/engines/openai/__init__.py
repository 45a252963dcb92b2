"""Language models behind a server of OpenAI's chat completions."""

"""Language models of the Hugging Face libraries, in this process."""

"""From a group of passages to a request, and from a reply to scores."""

from llmrankers_groupwise.prompting.prompt_file import PromptFile, load_prompt
from llmrankers_groupwise.prompting.render import render

__all__ = ["PromptFile", "load_prompt", "render"]

"""Replies kept on disk before they are used: the cache that makes a run resumable."""

from llmrankers_groupwise.journal.journal import Journal, ReadJournal

__all__ = ["Journal", "ReadJournal"]

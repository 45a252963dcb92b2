"""Replies kept on disk before they are used: the cache that makes a run resumable."""

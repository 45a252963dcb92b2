"""The command `run-groupwise train`."""

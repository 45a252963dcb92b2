"""Text files read by line and offset; files and folders written whole or not at all."""

"""From a group of passages to a request, and from a reply to scores."""

"""A comparison of runs as one HTML file, to be looked at in a browser."""

"""A transform, a decoder and a source of secrets: an example of what kpipe loads by entry points."""

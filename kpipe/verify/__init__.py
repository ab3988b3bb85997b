"""Compares two topics record by record, by the trace that kpipe left in the copy; for `kpipe verify`.

It sends nothing, commits nothing and knows no client: what it is told of both sides becomes a verdict.
"""

"""A topic as a folder of files: segments of envelopes, a journal of those that are whole, a manifest when all are.

It speaks to no cluster; `kpipe.ops.dump` and `kpipe.ops.load` join it with one.
"""

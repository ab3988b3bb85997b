"""Answers about a cluster, one file a command: topics, groups, records; what they say is told by the porch.

Looking changes nothing: no commit, no group is joined, no topic is created. Only `kpipe.ops.changing` changes anything.
"""

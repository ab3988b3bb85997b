"""The one door to a cluster: its connection, questions about topics, groups and offsets, changes, and hashes of keys.

It never joins a group; only `changes` changes anything, and only `changes` is refused by a `read_only` cluster.
"""

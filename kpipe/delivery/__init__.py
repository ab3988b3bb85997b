"""The ways in which a record is made to count: at least once, exactly once, resumed, restored, or acknowledged.

It changes no record: it decides when an offset is committed, and what is sent again.
"""

"""Sinks: where records go (stdout, topics, a spill file); they report outcomes and never commit."""

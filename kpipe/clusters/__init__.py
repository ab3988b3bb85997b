"""Clusters: addresses, profiles, secrets, and the client properties that reach them."""

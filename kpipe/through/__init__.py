"""Sends records through a Unix filter, a child process, and takes back what it answers."""

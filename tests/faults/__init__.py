"""Faults on purpose, on a real broker: after each, every record is where it belongs or accounted for."""

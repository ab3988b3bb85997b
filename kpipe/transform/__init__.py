"""Transforms: batch -> batch, pure; they never read, write or know Kafka."""

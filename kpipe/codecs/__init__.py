"""Avro, Protobuf, JSON Schema, MessagePack and CBOR <-> JSON: what a value says, and its bytes again.

It never touches Kafka; a schema comes from a file or from whoever the caller asks (`kpipe.codecs.registry`).
Nothing here is imported before a record needs it.
"""

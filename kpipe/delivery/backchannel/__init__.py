"""The way back of a shell pipeline: what `produce` has delivered is told to the `consume` that read it, to commit it.

It moves no record. The two ends share a unix socket that consume makes (0600) and removes:

    consume --commit-acked PATH   channel, listener, gate          produce --ack PATH   sender          both   protocol

Between the ends stands any filter. It may change records, and drop them: with `in-order` an acknowledged offset settles
all earlier ones of its partition. One that reorders must drop nothing: with `each` every offset is waited for.
"""

"""What the Kafka client says, in kpipe's terms; no socket is opened here and no record is moved."""

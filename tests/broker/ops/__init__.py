"""Looking and changing commands against a real Kafka, and against the answers of its own Java tools."""

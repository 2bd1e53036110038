"""Train fastText vectors."""

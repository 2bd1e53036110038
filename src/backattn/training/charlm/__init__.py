"""Train character language models from raw text."""

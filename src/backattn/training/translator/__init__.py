"""Train a fairseq translator from parallel text."""

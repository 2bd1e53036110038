"""Make the models that stage one reads: translators, English taggers, character language models."""

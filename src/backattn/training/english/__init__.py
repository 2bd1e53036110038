"""Train the English tagger from column files, or convert one of flair."""

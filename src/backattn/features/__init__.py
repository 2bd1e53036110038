"""Stage one: compute the features of a corpus with the expensive models, once, and store them."""

"""Stage one: corpus -> store. Runs the expensive models once."""

"""A training recipe out of what the data hold and what the machine can do."""

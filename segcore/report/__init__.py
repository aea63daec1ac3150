"""A page that shows where a model fails, made after an evaluation."""

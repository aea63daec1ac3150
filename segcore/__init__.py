"""The framework: data, training, evaluation; knows no architecture by name."""

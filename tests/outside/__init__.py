"""A package of somebody else's: everything that can be added without a change to this project."""

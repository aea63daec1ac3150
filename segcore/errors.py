"""What we raise at people: every message says what, where, what was expected, and what to do."""


class UserError(ValueError):
    """Something that the user gave us is not right; a command ends on it with one line."""


class ConfigError(UserError):
    """The config file or the command line asks for something that the schema does not know."""


class DataError(UserError):
    """An image or annotation file is not what it should be."""


class WeightsError(UserError):
    """A checkpoint cannot be read, or does not belong to this model."""


class NonFiniteError(FloatingPointError):
    """A loss or gradient stopped being a number."""

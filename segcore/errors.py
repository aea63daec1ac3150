"""What we raise at people: every message says what, where, what was expected, and what to do."""


class ConfigError(ValueError):
    """The config file or the command line asks for something that the schema does not know."""


class DataError(ValueError):
    """An image or annotation file is not what it should be."""


class WeightsError(ValueError):
    """A checkpoint cannot be read, or does not belong to this model."""

"""A data set in one line, for tests."""

from collections.abc import Sequence
from pathlib import Path

from segcore.data.catalog import Catalog
from segcore.data.store import Records
from segcore.structures import Metadata


def load(
    name: str, root: Path = Path("nowhere"), files: Sequence[Path] = ()
) -> tuple[Metadata, Records]:
    """Classes and records; the arguments are those of a Catalog."""
    catalog = Catalog(root, files)
    return catalog.metadata(name), catalog.read(name)

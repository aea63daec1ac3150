"""The architectures by name: who builds them, and which sections of the config they read.

An own one is "package.module:function" in MODEL.META_ARCHITECTURE; its module may have SECTIONS, a
mapping from dotted names to dataclasses, e.g. {"MODEL.MINE": Mine}, and with
`**mask2former.schema.SECTIONS` in it those of another. A section in the place of one of the
framework's is a subclass of it.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, is_dataclass, make_dataclass
from functools import cache
from typing import Any, get_type_hints

from segcore.errors import ConfigError
from segcore.import_path import choose, import_from, is_import_path
from segcore.keys import Key, ignored_keys, keys_of
from segcore.schema import Config

KEY = "MODEL.META_ARCHITECTURE"
DEFAULT = Config().MODEL.META_ARCHITECTURE


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """Where an architecture's parts stand, as "package.module:attribute".

    Args:
        build: (cfg, metadata) -> Task.
        sections: mappings from names of sections of the config to dataclasses.
        classes: cfg -> Metadata of an architecture that has classes of its own whatever its data
            is, else None; "": it never has.
    """

    build: str
    sections: tuple[str, ...] = ()
    classes: str = ""


MASK2FORMER, ENTITY = "mask2former.schema:SECTIONS", "cropformer.schema:SECTIONS"

ARCHITECTURES = {
    "MaskFormer": Architecture(
        build="cropformer.build:build_mask_former",  # which looks whether entities are wanted
        sections=(MASK2FORMER, ENTITY),
        classes="cropformer.build:entity_classes",
    ),
    "CropFormer": Architecture(
        build="cropformer.build:build_crops",
        sections=(MASK2FORMER, ENTITY),
        classes="cropformer.build:entity_classes",
    ),
    "VideoMaskFormer": Architecture(
        build="mask2former.video_build:build_video",
        sections=(MASK2FORMER, "mask2former.schema:VIDEO"),
    ),
    "GeneralizedRCNN": Architecture(
        build="maskrefine.build:build_detector",
        sections=("maskrefine.schema:DETECTOR", ENTITY),
        classes="cropformer.build:entity_classes",
    ),
    "RefinedMaskFormer": Architecture(
        build="maskrefine.hosted_build:build_hosted",
        sections=("maskrefine.schema:HOSTED", MASK2FORMER, ENTITY),
    ),
    "EncoderDecoderRefine": Architecture(
        build="maskrefine.patch_build:build_patches",
        sections=("maskrefine.schema:PATCHES",),
        classes="maskrefine.patch_build:patch_classes",
    ),
}


def architecture(name: str) -> Architecture:
    """By its name in the table, or "package.module:function" that builds it.

    ConfigError for a name that is neither.
    """
    if is_import_path(name):
        return Architecture(build=name)
    return choose(ARCHITECTURES, name, KEY)


@dataclass(frozen=True, slots=True, kw_only=True)
class Schema:
    """The config's tree for one architecture.

    Args:
        tree: Config with the architecture's sections in their places.
        keys: all of its keys, by dotted name.
        ignored: keys and whole sections that are accepted and not there.
        built: whether the architecture is one that is built here.
    """

    tree: type[Config]
    keys: dict[str, Key]
    ignored: frozenset[str]
    built: bool


def schema_of(name: str) -> Schema:
    """The schema of a name of the table, or of "package.module:function", which is imported.

    Old files may name an architecture that is not built here: they load with the default's
    schema, and who builds says what is wrong.
    """
    tree = _tree(tuple(_sections(name).items()))
    keys = keys_of(tree)
    sections = {key.rpartition(".")[0] for key in keys}  # what one reads, one does not ignore
    return Schema(
        tree=tree,
        keys=keys,
        ignored=ignored_keys(tree) - sections,
        built=name in ARCHITECTURES or is_import_path(name),
    )


@cache
def known_keys() -> dict[str, Key]:
    """The keys of all architectures of the table."""
    return {key: value for name in ARCHITECTURES for key, value in schema_of(name).keys.items()}


@cache
def known_ignored() -> frozenset[str]:
    """What some architecture of the table accepts and does not have."""
    return frozenset().union(*(schema_of(name).ignored for name in ARCHITECTURES))


def _sections(name: str) -> dict[str, type]:
    if is_import_path(name):
        import_from(name, KEY)
        return dict(getattr(sys.modules[name.partition(":")[0]], "SECTIONS", {}))
    entry = ARCHITECTURES.get(name, ARCHITECTURES[DEFAULT])
    found: dict[str, type] = {}
    for path in entry.sections:
        found |= import_from(path, KEY)
    return found


@cache
def _tree(sections: tuple[tuple[str, type], ...]) -> type[Config]:
    """The same class for the same sections, so that configs of one architecture compare."""
    return _extended(Config, dict(sections), "")


def _extended(base: type[Any], sections: Mapping[str, type], above: str) -> type[Any]:
    """A subclass of a section with more sections in it."""
    here: dict[str, type[Any]] = get_type_hints(base)
    added: dict[str, type[Any]] = {}
    inside: dict[str, dict[str, type]] = {}
    for path, section in sections.items():
        name, _, rest = path.partition(".")
        if rest:
            inside.setdefault(name, {})[rest] = section
            continue
        if not is_dataclass(section):
            raise ConfigError(f"SECTIONS: {above}{name} is {section!r}; expected a dataclass")
        if name in here and not issubclass(section, here[name]):
            raise ConfigError(
                f"SECTIONS: {above}{name} is there already; a section in its place is a subclass of"
                f" {here[name].__module__}.{here[name].__name__}"
            )
        added[name] = section
    for name, more in inside.items():
        parent = added.get(name, here.get(name))
        if not is_dataclass(parent):
            raise ConfigError(f"SECTIONS: there is no section {above}{name} for {', '.join(more)}")
        added[name] = _extended(parent, more, f"{above}{name}.")  # type: ignore[arg-type]
    members = [(name, kind, field(default_factory=kind)) for name, kind in added.items()]
    return make_dataclass(base.__name__, members, bases=(base,)) if members else base

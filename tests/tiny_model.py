"""Small untrained models out of the tiny configuration."""

from dataclasses import replace

from mask2former.build import build
from segcore.config import load_config
from segcore.data.catalog import Catalog


def metadata_of(root, classes):
    """The first of COCO's panoptic classes."""
    whole = Catalog(root).metadata("coco_2017_val_panoptic")
    names = ("classes", "dataset_ids", "is_thing", "colors")
    return replace(whole, **{name: getattr(whole, name)[:classes] for name in names})


def model_of(root, *opts, classes=133):
    """A Mask2Former for the first of COCO's panoptic classes."""
    cfg = load_config(root / "configs/tiny/panoptic_tiny.yaml", opts)
    return build(cfg, metadata_of(root, classes)).model

"""Who can run here beside ours, by what is installed and what the config is."""

from __future__ import annotations

from importlib.util import find_spec

from segcore.config import Config

RUNTIMES = {"ONNX Runtime": ("fp32",), "OpenVINO": ("fp32", "bf16")}
NEEDED = {  # what writes a file, and what runs it
    "ONNX Runtime": ("onnx", "onnxscript", "onnxruntime"),
    "OpenVINO": ("onnx", "onnxscript", "onnxruntime", "openvino"),
}
THEIRS = ("fp32", "bf16", "compiled, fp32", "compiled, bf16")  # not compiled: eager
RESNETS = {50: [3, 4, 6, 3], 101: [3, 4, 23, 3]}  # blocks of a stage, by depth


def names_of(cfg: Config, *, on_cpu: bool) -> tuple[list[str], list[str]]:
    """Names of contenders, ours first, and of what is left out a line each."""
    lacking: list[str] = []
    theirs = [f"transformers, {how}" for how in THEIRS]
    if not _is_theirs(cfg):
        theirs = []
        lacking.append("transformers has no such network: it is not beside ours")
    elif not find_spec("transformers"):
        theirs = []
        lacking.append("`pip install transformers` puts its Mask2Former beside ours")
    exported = []
    for runtime, kinds in RUNTIMES.items():
        if not on_cpu:
            lacking.append(f"{runtime} would run on the CPU here: it is left out")
        elif missing := [name for name in NEEDED[runtime] if not find_spec(name)]:
            how = "`pip install 'segcore[export]'` puts it beside ours"
            lacking.append(f"{runtime}: {', '.join(missing)} not installed; {how}")
        else:
            exported += [f"{runtime}, {kind}" for kind in kinds]
    ours = ["ours, fp32", "ours, bf16"]
    images = [f"image: {who}" for who in (*ours, *exported, *theirs)]
    return [*images, *(f"step: {who}" for who in (*ours, *theirs)), "segcore --help"], lacking


def _is_theirs(cfg: Config) -> bool:
    resnet = cfg.MODEL.BACKBONE.NAME == "build_resnet_backbone"
    known = (resnet and cfg.MODEL.RESNETS.DEPTH in RESNETS) or is_swin(cfg)
    return known and cfg.MODEL.META_ARCHITECTURE == "MaskFormer"


def is_swin(cfg: Config) -> bool:
    """Whether the backbone is a Swin Transformer; else transformers' is a ResNet."""
    return cfg.MODEL.BACKBONE.NAME == "D2SwinTransformer"

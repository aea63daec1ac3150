"""Sections of the config that Mask2Former brings, under their published names."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from segcore.keys import ignored, importable, names, number, one_of, only
from segcore.schema import Crop, Input, Test


@dataclass
class SemSegHead:
    """MODEL.SEM_SEG_HEAD: the pixel decoder. IGNORED are keys of DeepLab, and two never read."""

    IGNORED: ClassVar[str] = """
        ASPP_CHANNELS ASPP_DILATIONS ASPP_DROPOUT LOSS_TYPE NUM_CONVS PROJECT_CHANNELS
        PROJECT_FEATURES USE_DEPTHWISE_SEPARABLE_CONV DEFORMABLE_TRANSFORMER_ENCODER_N_HEADS
        DEFORMABLE_TRANSFORMER_ENCODER_N_POINTS
        """

    NAME: str = only("MaskFormerHead")
    NUM_CLASSES: int = number(0, low=0)  # 0: as many as the data set has
    IGNORE_VALUE: int = ignored(255, "the catalogue's ignore_label counts")
    CONVS_DIM: int = number(256, low=1)
    MASK_DIM: int = number(256, low=1)
    NORM: str = only("GN")
    IN_FEATURES: list[str] = only(["res2", "res3", "res4", "res5"])
    COMMON_STRIDE: int = only(4)
    LOSS_WEIGHT: float = ignored(1.0)
    PIXEL_DECODER_NAME: str = importable("MSDeformAttnPixelDecoder")
    DEFORMABLE_TRANSFORMER_ENCODER_IN_FEATURES: list[str] = only(["res3", "res4", "res5"])
    TRANSFORMER_ENC_LAYERS: int = number(6, low=1)
    ENC_FFN_DIM: int = number(1024, low=1)


@dataclass
class MaskFormerTest:
    """MODEL.MASK_FORMER.TEST: which results are made, and how."""

    SEMANTIC_ON: bool = True
    INSTANCE_ON: bool = False
    PANOPTIC_ON: bool = False
    OBJECT_MASK_THRESHOLD: float = 0.8
    OVERLAP_THRESHOLD: float = 0.8
    SEM_SEG_POSTPROCESSING_BEFORE_INFERENCE: bool = False
    # 0: as many as are learned; fewer are the first of them, more are copies
    NUM_QUERIES: int = number(0, low=0)
    # of two objects of a class whose masks overlap (IoU) more, the less sure one is left out; 0:
    # none is, as published, but where queries have copies the limit is 0.7
    DUPLICATE_IOU: float = number(0.0, low=0, high=1)


@dataclass
class MaskFormer:
    """MODEL.MASK_FORMER: the transformer decoder, its losses, its results."""

    DEEP_SUPERVISION: bool = only(True)
    NO_OBJECT_WEIGHT: float = 0.1
    CLASS_WEIGHT: float = 2.0
    DICE_WEIGHT: float = 5.0
    MASK_WEIGHT: float = 5.0
    NHEADS: int = number(8, low=1, divides="HIDDEN_DIM")  # heads share the channels evenly
    DROPOUT: float = number(0.0, low=0, high=1)
    DIM_FEEDFORWARD: int = number(2048, low=1)
    ENC_LAYERS: int = ignored(0)
    DEC_LAYERS: int = number(10, low=1)  # predictions; real layers are one fewer
    PRE_NORM: bool = only(False)
    HIDDEN_DIM: int = number(256, low=1)
    NUM_OBJECT_QUERIES: int = number(100, low=1)
    TRANSFORMER_IN_FEATURE: str = only("multi_scale_pixel_decoder")
    ENFORCE_INPUT_PROJ: bool = only(False)
    SIZE_DIVISIBILITY: int = only(32)
    TRANSFORMER_DECODER_NAME: str = importable("MultiScaleMaskedTransformerDecoder")
    TRAIN_NUM_POINTS: int = number(12544, low=1)
    OVERSAMPLE_RATIO: float = number(3.0, low=1)
    IMPORTANCE_SAMPLE_RATIO: float = number(0.75, low=0, high=1)
    TEST: MaskFormerTest = field(default_factory=MaskFormerTest)


SECTIONS = {"MODEL.SEM_SEG_HEAD": SemSegHead, "MODEL.MASK_FORMER": MaskFormer}


@dataclass
class VideoInput(Input):
    """INPUT of VideoMaskFormer: which frames are a clip, and how they are augmented."""

    MIN_SIZE_TRAIN_SAMPLING: str = one_of("choice", "range", "choice_by_clip", "range_by_clip")
    RANDOM_FLIP: str = one_of("horizontal", "none", "flip_by_clip")
    SAMPLING_FRAME_NUM: int = number(2, low=1)
    SAMPLING_FRAME_RANGE: int = number(20, low=0)
    SAMPLING_FRAME_SHUFFLE: bool = False
    AUGMENTATIONS: list[str] = names()  # of each frame: brightness, contrast, saturation, rotation
    # as published: an object that is absent from a clip's last frame is trained as no object
    LAST_FRAME_LABELS: bool = False


@dataclass
class VideoCrop(Crop):
    """INPUT.CROP of VideoMaskFormer."""

    TYPE: str = one_of("absolute", "absolute_range")


@dataclass
class VideoTest(Test):
    """TEST of VideoMaskFormer."""

    TRACKS_PER_VIDEO: int = number(10, low=1)  # in place of DETECTIONS_PER_IMAGE


VIDEO = {"INPUT": VideoInput, "INPUT.CROP": VideoCrop, "TEST": VideoTest}

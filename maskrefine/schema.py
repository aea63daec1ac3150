"""Sections of the config that two-stage detectors, their mask refiners and patches bring.

Names and defaults are detectron2's, as its files for feature pyramids repeat them.
"""

# pyright: reportIncompatibleVariableOverride=false
# (sections in the places of the framework's are subclasses of these, as segcore.architectures asks)
from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from segcore import schema
from segcore.keys import ignored, importable, number, numbers, one_of, only

RES = ["res2", "res3", "res4", "res5"]
STAGES = ["stage2", "stage3", "stage4", "stage5"]  # the same in the files with Swin


def _anchor_sizes() -> list[list[float]]:
    return [[32.0], [64.0], [128.0], [256.0], [512.0]]


def _anchor_ratios() -> list[list[float]]:
    return [[0.5, 1.0, 2.0]]


@dataclass
class Backbone(schema.Backbone):
    NAME: str = importable("build_resnet_fpn_backbone")
    FREEZE_AT: int = number(2, low=-1, high=5)  # of a ResNet: 1 the stem, 2 res2 too ...


@dataclass
class ResNets(schema.ResNets):
    NORM: str = one_of("FrozenBN", "StandingBN")  # the second learns its affine values: mmdet's
    OUT_FEATURES: list[str] = only(RES)
    STRIDE_IN_1X1: bool = True
    NUM_GROUPS: int = number(1, low=1)
    WIDTH_PER_GROUP: int = number(64, low=1)
    STEM_OUT_CHANNELS: int = only(64)
    RES2_OUT_CHANNELS: int = only(256)
    RES5_DILATION: int = only(1)
    DEFORM_ON_PER_STAGE: list[bool] = numbers(False, False, False, False, count=4)
    DEFORM_MODULATED: bool = only(False)
    DEFORM_NUM_GROUPS: int = only(1)


@dataclass
class SwinT:
    """MODEL.SWINT; Swin-B's values stood in Python, and stand in its file here."""

    EMBED_DIM: int = number(96, low=1)
    OUT_FEATURES: list[str] = only(STAGES)
    DEPTHS: list[int] = numbers(2, 2, 6, 2, low=1, count=4)
    NUM_HEADS: list[int] = numbers(3, 6, 12, 24, low=1, count=4)
    WINDOW_SIZE: int = number(7, low=1)
    MLP_RATIO: float = 4.0
    DROP_PATH_RATE: float = number(0.2, low=0, high=1)
    APE: bool = only(False)


@dataclass
class Fpn:
    IN_FEATURES: list[str] = one_of(RES, STAGES)
    OUT_CHANNELS: int = number(256, low=1)
    NORM: str = only("")
    FUSE_TYPE: str = only("sum")
    TOP_LEVELS: int = ignored(2, "p6 is there always, and nothing coarser")


@dataclass
class ProposalGenerator:
    NAME: str = only("RPN")
    MIN_SIZE: int = only(0)


@dataclass
class AnchorGenerator:
    NAME: str = only("DefaultAnchorGenerator")
    SIZES: list[list[float]] = field(default_factory=_anchor_sizes)  # in pixels, one a level
    ASPECT_RATIOS: list[list[float]] = field(default_factory=_anchor_ratios)  # for all levels
    ANGLES: list[list[int]] = field(default_factory=lambda: [[-90, 0, 90]])
    OFFSET: float = only(0.0)


@dataclass
class Rpn:
    HEAD_NAME: str = only("StandardRPNHead")
    IN_FEATURES: list[str] = only(["p2", "p3", "p4", "p5", "p6"])
    BOUNDARY_THRESH: int = only(-1)
    IOU_THRESHOLDS: list[float] = numbers(0.3, 0.7, low=0, high=1, count=2)
    IOU_LABELS: list[int] = only([0, -1, 1])
    BATCH_SIZE_PER_IMAGE: int = number(256, low=1)
    POSITIVE_FRACTION: float = number(0.5, low=0, high=1)
    BBOX_REG_LOSS_TYPE: str = only("smooth_l1")
    BBOX_REG_LOSS_WEIGHT: float = only(1.0)
    BBOX_REG_WEIGHTS: list[float] = only([1.0, 1.0, 1.0, 1.0])
    SMOOTH_L1_BETA: float = number(0.0, low=0)
    LOSS_WEIGHT: float = only(1.0)
    PRE_NMS_TOPK_TRAIN: int = number(2000, low=1)
    PRE_NMS_TOPK_TEST: int = number(1000, low=1)
    POST_NMS_TOPK_TRAIN: int = number(1000, low=1)
    POST_NMS_TOPK_TEST: int = number(1000, low=1)
    NMS_THRESH: float = number(0.7, low=0, high=1)
    CONV_DIMS: list[int] = only([-1])


@dataclass
class RoiHeads:
    NAME: str = only("StandardROIHeads")
    NUM_CLASSES: int = number(0, low=0)  # 0: as many as the data set has
    IN_FEATURES: list[str] = only(["p2", "p3", "p4", "p5"])
    IOU_THRESHOLDS: list[float] = numbers(0.5, low=0, high=1, count=1)
    IOU_LABELS: list[int] = only([0, 1])
    BATCH_SIZE_PER_IMAGE: int = number(512, low=1)
    POSITIVE_FRACTION: float = number(0.25, low=0, high=1)
    SCORE_THRESH_TEST: float = number(0.05, low=0, high=1)
    NMS_THRESH_TEST: float = number(0.5, low=0, high=1)
    PROPOSAL_APPEND_GT: bool = only(True)


@dataclass
class RoiBoxHead:
    IGNORED: ClassVar[str] = """
        CONV_DIM FED_LOSS_FREQ_WEIGHT_POWER FED_LOSS_NUM_CLASSES NUM_CLASSES
        """

    NAME: str = only("FastRCNNConvFCHead")
    BBOX_REG_LOSS_TYPE: str = only("smooth_l1")
    BBOX_REG_LOSS_WEIGHT: float = only(1.0)
    BBOX_REG_WEIGHTS: list[float] = only([10.0, 10.0, 5.0, 5.0])
    SMOOTH_L1_BETA: float = number(0.0, low=0)
    POOLER_RESOLUTION: int = number(7, low=1)
    POOLER_SAMPLING_RATIO: int = only(0)
    POOLER_TYPE: str = only("ROIAlignV2")
    NUM_FC: int = only(2)
    FC_DIM: int = number(1024, low=1)
    NUM_CONV: int = only(0)
    NORM: str = only("")
    CLS_AGNOSTIC_BBOX_REG: bool = only(False)
    TRAIN_ON_PRED_BOXES: bool = only(False)
    USE_FED_LOSS: bool = only(False)
    USE_SIGMOID_CE: bool = only(False)


@dataclass
class RoiMaskHead:
    """MODEL.ROI_MASK_HEAD: the plain head, or a refiner in its place.

    Transfiner's published files name the plain head and mean its own: a program that shadowed
    detectron2 had changed what the name stood for.
    """

    NAME: str = importable("MaskRCNNConvUpsampleHead")
    POOLER_RESOLUTION: int = number(14, low=1)
    POOLER_SAMPLING_RATIO: int = only(0)
    POOLER_TYPE: str = only("ROIAlignV2")
    NUM_CONV: int = number(4, low=0)
    CONV_DIM: int = number(256, low=1)
    NORM: str = only("")
    CLS_AGNOSTIC_MASK: bool = False


@dataclass
class Transfiner:
    """MODEL.TRANSFINER: numbers that the published program has in its code."""

    TRAIN_LIMIT: int = number(30, low=0)  # boxes that get a second look; 0: all
    TEST_LIMIT: int = number(10, low=0)
    LIMIT_PER_IMAGE: bool = False  # the limits are for each image, not for the whole batch
    TRAIN_THRESHOLDS: list[float] = numbers(0.125, 0.5, 0.5, low=0, high=1, count=3)
    TEST_THRESHOLDS: list[float] = numbers(1e-6, 0.125, 0.8, low=0, high=1, count=3)
    TEST_CELLS: int = number(0, low=0)  # of a box in each grid, the least sure; 0: all
    SAMPLES: int = number(150, low=1)  # cells of each grid
    LEAST: int = number(10, low=1)
    DROPOUT: float = number(0.1, low=0, high=1)


@dataclass
class RefineMask:
    """MODEL.REFINEMASK."""

    STAGE_WEIGHTS: list[float] = numbers(0.25, 0.5, 0.75, 1.0, low=0, count=4)
    LAST_CLS_AGNOSTIC: bool = False  # the last stage says the same for all classes


@dataclass
class WithMaskHead(schema.Model):
    """MODEL of whatever has a mask head."""

    NUMERICS: str = one_of("detectron2", "mmdet")  # whose habits, where the two differ
    FPN: Fpn = field(default_factory=Fpn)
    ROI_MASK_HEAD: RoiMaskHead = field(default_factory=RoiMaskHead)
    TRANSFINER: Transfiner = field(default_factory=Transfiner)
    REFINEMASK: RefineMask = field(default_factory=RefineMask)


@dataclass
class Model(WithMaskHead):
    META_ARCHITECTURE: str = importable("GeneralizedRCNN")
    MASK_ON: bool = only(True)
    KEYPOINT_ON: bool = only(False)
    LOAD_PROPOSALS: bool = only(False)
    PIXEL_MEAN: list[float] = numbers(103.53, 116.28, 123.675, count=3)  # in INPUT.FORMAT's order
    PIXEL_STD: list[float] = numbers(1.0, 1.0, 1.0, count=3)
    BACKBONE: Backbone = field(default_factory=Backbone)
    RESNETS: ResNets = field(default_factory=ResNets)
    SWINT: SwinT = field(default_factory=SwinT)
    PROPOSAL_GENERATOR: ProposalGenerator = field(default_factory=ProposalGenerator)
    ANCHOR_GENERATOR: AnchorGenerator = field(default_factory=AnchorGenerator)
    RPN: Rpn = field(default_factory=Rpn)
    ROI_HEADS: RoiHeads = field(default_factory=RoiHeads)
    ROI_BOX_HEAD: RoiBoxHead = field(default_factory=RoiBoxHead)


@dataclass
class Input(schema.Input):
    DATASET_MAPPER_NAME: str = "default"
    FORMAT: str = one_of("BGR", "RGB")
    MASK_FORMAT: str = one_of("polygon", "bitmask")


@dataclass
class ClipGradients(schema.ClipGradients):
    ENABLED: bool = False
    CLIP_TYPE: str = one_of("value", "norm", "full_model")
    CLIP_VALUE: float = 1.0


@dataclass
class Amp(schema.Amp):
    ENABLED: bool = False


@dataclass
class Solver(schema.Solver):
    OPTIMIZER: str = one_of("SGD", "ADAMW")
    BASE_LR: float = number(0.001, low=0)
    BACKBONE_MULTIPLIER: float = 1.0
    WEIGHT_DECAY: float = number(1e-4, low=0)
    STEPS: list[int] = numbers(30000, low=0)
    WARMUP_FACTOR: float = 0.001
    WARMUP_ITERS: int = number(1000, low=0)
    NESTEROV: bool = only(False)
    BIAS_LR_FACTOR: float = only(1.0)
    CLIP_GRADIENTS: ClipGradients = field(default_factory=ClipGradients)
    AMP: Amp = field(default_factory=Amp)


@dataclass
class Test(schema.Test):
    EVAL_PERIOD: int = number(0, low=0)


DETECTOR = {"MODEL": Model, "INPUT": Input, "SOLVER": Solver, "TEST": Test}


@dataclass
class Hosted:
    """MODEL.HOSTED: the trained model that a mask head works behind."""

    NAME: str = importable("MaskFormer")  # an architecture; its weights are in MODEL.WEIGHTS
    TRAIN_LIMIT: int = number(32, low=1)  # objects of an image in training
    MIN_IOU: float = number(0.5, low=0, high=1)  # of a found mask with the object that it shows
    MARGIN: float = number(0.1, low=0)  # that its box gets on every side


@dataclass
class HostedModel(WithMaskHead):
    META_ARCHITECTURE: str = importable("RefinedMaskFormer")
    HOSTED: Hosted = field(default_factory=Hosted)


@dataclass
class HostedInput(schema.Input):
    DATASET_MAPPER_NAME: str = "mask_former_instance"
    MASK_FORMAT: str = one_of("polygon", "bitmask")


HOSTED = {"MODEL": HostedModel, "INPUT": HostedInput}


@dataclass
class Bpr:
    """MODEL.BPR: the network of boundary patches, and what it is trained on."""

    NETWORK: str = one_of("hrnet18s", "hrnet48")
    INPUT_SIZE: int = number(128, low=32)  # what a patch is resized to
    PATCH_SIZE: int = number(64, low=2)  # pixels of the image
    IOU_THRESHOLD: float = number(0.25, low=0, high=1)  # windows of a mask overlap at most so much
    # a file or folder of predictions of DATASETS.TRAIN; "": the annotated masks, made worse
    PREDICTIONS: str = ""
    MIN_IOU: float = number(0.5, low=0, high=1)  # of a prediction with what it means
    SAMPLE_INSTANCES: int = number(0, low=0)  # that are drawn of all predictions; 0: all of them


@dataclass
class PatchModel(schema.Model):
    META_ARCHITECTURE: str = importable("EncoderDecoderRefine")
    PIXEL_MEAN: list[float] = only([123.675, 116.28, 103.53])
    PIXEL_STD: list[float] = only([58.395, 57.12, 57.375])
    BPR: Bpr = field(default_factory=Bpr)


@dataclass
class PatchSolver(schema.Solver):
    IMS_PER_BATCH: int = number(32, low=1)  # patches
    OPTIMIZER: str = one_of("SGD", "ADAMW")
    BASE_LR: float = number(0.01, low=0)
    BASE_LR_END: float = number(1e-4, low=0)
    WEIGHT_DECAY: float = number(5e-4, low=0)
    WEIGHT_DECAY_NORM: float = 5e-4
    LR_SCHEDULER_NAME: str = one_of("WarmupPolyLR", "WarmupMultiStepLR")
    MAX_ITER: int = number(160000, low=0)
    CHECKPOINT_PERIOD: int = number(16000, low=0)
    CLIP_GRADIENTS: ClipGradients = field(default_factory=ClipGradients)
    AMP: Amp = field(default_factory=Amp)


@dataclass
class PatchTest(schema.Test):
    EVAL_PERIOD: int = number(16000, low=0)


PATCHES = {"MODEL": PatchModel, "SOLVER": PatchSolver, "TEST": PatchTest}

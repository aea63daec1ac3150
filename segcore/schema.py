"""The framework's keys, their types, defaults and limits: detectron2's tree, upper case.

Sections of an architecture stand in its package's own schema.py (`segcore.architectures`).
Defaults carry what every published file repeats, so a file says only what is its own.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from segcore.keys import (
    ignored,
    importable,
    names,
    number,
    numbers,
    one_of,
    only,
    pairs,
    rates,
    sizes,
    some_of,
)


@dataclass
class Backbone:
    NAME: str = importable("build_resnet_backbone")
    FREEZE_AT: int = ignored(0)
    FROZEN_NORM: bool = False
    USE_CHECKPOINT: bool = False  # activations are computed again in backward, not kept


@dataclass
class ResNets:
    IGNORED: ClassVar[str] = """
        DEFORM_MODULATED DEFORM_NUM_GROUPS DEFORM_ON_PER_STAGE NUM_GROUPS RES2_OUT_CHANNELS
        RES4_DILATION RES5_DILATION RES5_MULTI_GRID STEM_OUT_CHANNELS STEM_TYPE WIDTH_PER_GROUP
        """

    DEPTH: int = 50
    NORM: str = "FrozenBN"
    OUT_FEATURES: list[str] = ignored(["res2", "res3", "res4", "res5"])
    STRIDE_IN_1X1: bool = ignored(False)


@dataclass
class Swin:
    PRETRAIN_IMG_SIZE: int = 224  # changes nothing: published files set it, only APE reads it
    PATCH_SIZE: int = number(4, low=1)
    EMBED_DIM: int = number(96, low=1)
    DEPTHS: list[int] = numbers(2, 2, 6, 2, low=1, count=4)
    NUM_HEADS: list[int] = numbers(3, 6, 12, 24, low=1, count=4)
    WINDOW_SIZE: int = number(7, low=1)
    MLP_RATIO: float = 4.0
    QKV_BIAS: bool = True
    QK_SCALE: float | None = ignored(None)
    DROP_RATE: float = ignored(0.0)
    ATTN_DROP_RATE: float = ignored(0.0)
    DROP_PATH_RATE: float = number(0.3, low=0, high=1)
    APE: bool = only(False)
    PATCH_NORM: bool = only(True)
    OUT_FEATURES: list[str] = ignored(["res2", "res3", "res4", "res5"])
    USE_CHECKPOINT: bool = False


@dataclass
class HorNet:
    DEPTHS: list[int] = numbers(2, 3, 18, 2, low=1, count=4)
    BASE_DIM: int = number(192, low=1)
    GCONV: list[str] = ignored([])
    DROP_PATH_RATE: float = number(0.6, low=0, high=1)
    OUT_FEATURES: list[str] = ignored(["res2", "res3", "res4", "res5"])


@dataclass
class Model:
    IGNORED: ClassVar[str] = """
        ANCHOR_GENERATOR FPN KEYPOINT_ON LOAD_PROPOSALS PANOPTIC_FPN PROPOSAL_GENERATOR RETINANET
        ROI_BOX_CASCADE_HEAD ROI_BOX_HEAD ROI_HEADS ROI_KEYPOINT_HEAD ROI_MASK_HEAD RPN SWINT
        """

    META_ARCHITECTURE: str = importable("MaskFormer")
    WEIGHTS: str = ""
    DEVICE: str = "auto"
    COMPILE: bool = False  # torch.compile of backbone, pixel decoder and decoder
    FREEZE: list[str] = names()  # patterns of names of parameters that learn nothing
    MASK_ON: bool = ignored(False, "MODEL.MASK_FORMER.TEST says what is made")
    PIXEL_MEAN: list[float] = numbers(123.675, 116.28, 103.53, count=3)
    PIXEL_STD: list[float] = numbers(58.395, 57.12, 57.375, count=3)
    BACKBONE: Backbone = field(default_factory=Backbone)
    RESNETS: ResNets = field(default_factory=ResNets)
    SWIN: Swin = field(default_factory=Swin)
    HORNET: HorNet = field(default_factory=HorNet)


@dataclass
class Crop:
    ENABLED: bool = False
    TYPE: str = ignored("absolute")
    SIZE: list[float] = numbers(0.9, 0.9)
    SINGLE_CATEGORY_MAX_AREA: float = 1.0


@dataclass
class CopyPaste:
    """INPUT.COPY_PASTE: objects of a second image on the first; of stills."""

    PROBABILITY: float = number(0.0, low=0, high=1)  # share of the images; 0: nothing is drawn
    OBJECTS: int = number(100, low=1)  # of the second image, at most
    # objects that show fewer are not pasted, and are dropped once something covers them
    LEAST_PIXELS: int = number(16, low=1)


@dataclass
class Input:
    DATASET_MAPPER_NAME: str = "mask_former_semantic"
    FORMAT: str = only("RGB")
    MASK_FORMAT: str = ignored("polygon", "each annotation is read as it is")
    MIN_SIZE_TRAIN: Any = sizes(800)
    MIN_SIZE_TRAIN_SAMPLING: str = one_of("choice", "range")  # of a list, or between two sizes
    MAX_SIZE_TRAIN: int = number(1333, low=1)
    MIN_SIZE_TEST: int = number(800, low=0)
    MAX_SIZE_TEST: int = number(1333, low=1)
    RANDOM_FLIP: str = "horizontal"  # or none; each kind of views says what it can do
    # classes that change places in a mirrored image: [[left_hand, right_hand], ...]; auto: those
    # whose names say left and right
    MIRROR_SWAP: list[Any] = pairs()
    VERTICAL_FLIP: float = number(0.0, low=0, high=1)  # of stills: share that is upside down
    ROTATION: float = number(0.0, low=0, high=180)  # of stills: degrees at most, either way
    COLOR_AUG_SSD: bool = False
    SIZE_DIVISIBILITY: int = -1
    IMAGE_SIZE: int = number(1024, low=1)
    MIN_SCALE: float = 0.1
    MAX_SCALE: float = 2.0
    CROP: Crop = field(default_factory=Crop)
    COPY_PASTE: CopyPaste = field(default_factory=CopyPaste)
    SAMPLING_FRAME_NUM: int = ignored(2)
    SAMPLING_FRAME_RANGE: int = ignored(20)
    SAMPLING_FRAME_SHUFFLE: bool = ignored(False)
    AUGMENTATIONS: list[str] = ignored([])


@dataclass
class Datasets:
    IGNORED: ClassVar[str] = """
        PRECOMPUTED_PROPOSAL_TOPK_TEST PRECOMPUTED_PROPOSAL_TOPK_TRAIN PROPOSAL_FILES_TEST
        PROPOSAL_FILES_TRAIN
        """

    TRAIN: list[str] = names()
    TEST: list[str] = names()
    CATALOGS: list[str] = names()
    # whether training sets may have other classes than the first: those of its names are trained
    MATCH_CLASSES: bool = False
    # how much of the training each set of TRAIN is, in parts; []: as much as it has records
    SHARES: list[float] = numbers(low=1e-6)


@dataclass
class DataLoader:
    NUM_WORKERS: int = number(4, low=0)
    FILTER_EMPTY_ANNOTATIONS: bool = True
    ASPECT_RATIO_GROUPING: bool = True
    # the third one is mmdetection's: factors are rounded up, not by chance
    SAMPLER_TRAIN: str = one_of(
        "TrainingSampler", "RepeatFactorTrainingSampler", "ClassBalancedDataset"
    )
    # of these two: images of classes that are in a smaller share of all are seen more often
    REPEAT_THRESHOLD: float = number(0.0, low=0, high=1)
    REPEAT_SQRT: bool = True


@dataclass
class ClipGradients:
    ENABLED: bool = True
    CLIP_TYPE: str = one_of("full_model", "value", "norm")
    CLIP_VALUE: float = 0.01
    NORM_TYPE: float = 2.0


@dataclass
class Amp:
    ENABLED: bool = True
    PRECISION: str = one_of("", "fp32", "bf16", "fp16")


@dataclass
class Ema:
    DECAY: float = number(0.0, low=0, high=1)  # of the moving average of weights; 0: there is none


@dataclass
class EarlyStopping:
    PATIENCE: int = number(0, low=0)  # evaluations without improvement that end it; 0: none do
    MIN_DELTA: float = number(0.0, low=0)  # of the metric, in percent, to be an improvement


@dataclass
class Solver:
    IGNORED: ClassVar[str] = """
        BIAS_LR_FACTOR LR_SCHEDULER NESTEROV REFERENCE_WORLD_SIZE WEIGHT_DECAY_BIAS NUM_DECAYS
        RESCALE_INTERVAL
        """

    IMS_PER_BATCH: int = number(16, low=1)
    ACCUMULATE: int = number(1, low=1)
    OPTIMIZER: str = one_of("ADAMW", "SGD")
    BASE_LR: float = number(1e-4, low=0)
    BASE_LR_END: float = number(0.0, low=0)  # to which WarmupPolyLR falls
    BACKBONE_MULTIPLIER: float = 0.1
    # what holds instead by parameter name: [[PATTERN, FACTOR], ...], of BASE_LR, the last counts
    RATES: list[Any] = rates()
    LAYER_DECAY: float = number(1.0, low=0, high=1)  # by block of the backbone, from its end on
    MOMENTUM: float = 0.9
    WEIGHT_DECAY: float = number(0.05, low=0)
    WEIGHT_DECAY_NORM: float = 0.0
    WEIGHT_DECAY_EMBED: float = 0.0
    LR_SCHEDULER_NAME: str = one_of("WarmupMultiStepLR", "WarmupPolyLR")
    MAX_ITER: int = number(40000, low=0)
    STEPS: list[int] = numbers(low=0)
    GAMMA: float = 0.1
    WARMUP_FACTOR: float = 1.0
    WARMUP_ITERS: int = number(0, low=0)
    WARMUP_METHOD: str = one_of("linear", "constant")
    POLY_LR_POWER: float = 0.9
    POLY_LR_CONSTANT_ENDING: float = 0.0
    CHECKPOINT_PERIOD: int = number(5000, low=0)
    CLIP_GRADIENTS: ClipGradients = field(default_factory=ClipGradients)
    AMP: Amp = field(default_factory=Amp)
    EMA: Ema = field(default_factory=Ema)
    EARLY_STOPPING: EarlyStopping = field(default_factory=EarlyStopping)
    PREPARE: bool = True  # on a CPU: the same layers by faster routes, not bit for bit
    WINOGRAD: bool = True  # among them; as TEST.WINOGRAD, for large maps alone


@dataclass
class Aug:
    ENABLED: bool = False
    MIN_SIZES: list[int] = numbers(400, 500, 600, 700, 800, 900, 1000, 1100, 1200, low=1)
    MAX_SIZE: int = number(4000, low=1)
    FLIP: bool = True


@dataclass
class Refine:
    """TEST.REFINE: what goes over all masks after the model; nothing without WEIGHTS."""

    NAME: str = importable("bpr")
    WEIGHTS: str = ""
    IOU_THRESHOLD: float = number(0.25, low=0, high=1)  # windows of a mask overlap at most so much
    NUMERICS: str = one_of("batch", "demo")  # of which published program
    LEAST_AREA: int = number(0, low=0)  # pixels; smaller masks stay as they are
    BATCH_SIZE: int = number(0, low=0)  # patches at a time; 0: what suits the device


@dataclass
class Test:
    IGNORED: ClassVar[str] = "EXPECTED_RESULTS KEYPOINT_OKS_SIGMAS PRECISE_BN"

    EVAL_PERIOD: int = number(5000, low=0)
    # by which model_best.pth is chosen, the more the better: a metric's name, of several test sets
    # the first that has it, or <set>/<metric>; auto: APe, PQ, AP or mIoU; "": none is kept
    BEST_METRIC: str = "auto"
    DETECTIONS_PER_IMAGE: int = number(100, low=1)
    # of the predictions of an image and class, the surest that AP counts; 0: 100, and LVIS's 300
    AP_DETECTIONS: int = number(0, low=0)
    BATCH_SIZE: int = number(1, low=1)
    # of a model for video: frames that it sees together, 0: all of a video, as published; and how
    # many of them belong to the window before, too
    WINDOW: int = number(0, low=0)
    OVERLAP: int = number(4, low=0)
    # fp32 as published; bf16, fp16 (GPU only), or "" for the best mixed one
    PRECISION: str = one_of("fp32", "bf16", "fp16", "")
    PREPARE: bool = True  # on a CPU: pack weights before the first image
    # of a prepared model in fp32, with ops/: 3x3 convolutions by Winograd's algorithm, faster, with
    # several times the rounding error
    WINOGRAD: bool = True
    # a page of where the model fails: auto, after the last evaluation of a training, of data sets
    # that are not in the shipped catalogue; always, after each evaluation; never
    REPORT: str = one_of("auto", "always", "never")
    AUG: Aug = field(default_factory=Aug)
    REFINE: Refine = field(default_factory=Refine)


@dataclass
class Config:
    IGNORED: ClassVar[str] = "CUDNN_BENCHMARK GLOBAL VIS_PERIOD"

    VERSION: int = ignored(2)
    OUTPUT_DIR: str = "./output"
    SEED: int = -1
    # where losses and metrics go beside metrics.json and curves.png
    LOGGERS: list[str] = some_of(["tensorboard"], "wandb", "mlflow", "trackio")
    MODEL: Model = field(default_factory=Model)
    INPUT: Input = field(default_factory=Input)
    DATASETS: Datasets = field(default_factory=Datasets)
    DATALOADER: DataLoader = field(default_factory=DataLoader)
    SOLVER: Solver = field(default_factory=Solver)
    TEST: Test = field(default_factory=Test)
    # "" as torch has it; "highest", "high" (TF32 on CUDA) or "medium", for products of float32
    FLOAT32_PRECISION: str = one_of("", "highest", "high", "medium")

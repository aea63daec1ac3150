"""Every key of the config, its type and its default: detectron2's tree, upper case.

Defaults carry what every published file repeats, so a file says only what is its own.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf
from typing import Any


def _list(*values: Any) -> Any:
    return field(default_factory=lambda: list(values))


@dataclass
class Backbone:
    NAME: str = "build_resnet_backbone"
    FREEZE_AT: int = 0
    FROZEN_NORM: bool = False


@dataclass
class ResNets:
    DEPTH: int = 50
    NORM: str = "FrozenBN"
    OUT_FEATURES: list[str] = _list("res2", "res3", "res4", "res5")
    STRIDE_IN_1X1: bool = False


@dataclass
class Swin:
    PRETRAIN_IMG_SIZE: int = 224
    PATCH_SIZE: int = 4
    EMBED_DIM: int = 96
    DEPTHS: list[int] = _list(2, 2, 6, 2)
    NUM_HEADS: list[int] = _list(3, 6, 12, 24)
    WINDOW_SIZE: int = 7
    MLP_RATIO: float = 4.0
    QKV_BIAS: bool = True
    QK_SCALE: float | None = None
    DROP_RATE: float = 0.0
    ATTN_DROP_RATE: float = 0.0
    DROP_PATH_RATE: float = 0.3
    APE: bool = False
    PATCH_NORM: bool = True
    OUT_FEATURES: list[str] = _list("res2", "res3", "res4", "res5")
    USE_CHECKPOINT: bool = False


@dataclass
class HorNet:
    DEPTHS: list[int] = _list(2, 3, 18, 2)
    BASE_DIM: int = 192
    GCONV: list[str] = _list()
    DROP_PATH_RATE: float = 0.6
    OUT_FEATURES: list[str] = _list("res2", "res3", "res4", "res5")


@dataclass
class SemSegHead:
    NAME: str = "MaskFormerHead"
    NUM_CLASSES: int = 0  # 0: as many as the data set has
    IGNORE_VALUE: int = 255
    CONVS_DIM: int = 256
    MASK_DIM: int = 256
    NORM: str = "GN"
    IN_FEATURES: list[str] = _list("res2", "res3", "res4", "res5")
    COMMON_STRIDE: int = 4
    LOSS_WEIGHT: float = 1.0
    PIXEL_DECODER_NAME: str = "MSDeformAttnPixelDecoder"
    DEFORMABLE_TRANSFORMER_ENCODER_IN_FEATURES: list[str] = _list("res3", "res4", "res5")
    TRANSFORMER_ENC_LAYERS: int = 6
    ENC_FFN_DIM: int = 1024


@dataclass
class MaskFormerTest:
    SEMANTIC_ON: bool = True
    INSTANCE_ON: bool = False
    PANOPTIC_ON: bool = False
    OBJECT_MASK_THRESHOLD: float = 0.8
    OVERLAP_THRESHOLD: float = 0.8
    SEM_SEG_POSTPROCESSING_BEFORE_INFERENCE: bool = False


@dataclass
class MaskFormer:
    DEEP_SUPERVISION: bool = True
    NO_OBJECT_WEIGHT: float = 0.1
    CLASS_WEIGHT: float = 2.0
    DICE_WEIGHT: float = 5.0
    MASK_WEIGHT: float = 5.0
    NHEADS: int = 8
    DROPOUT: float = 0.0
    DIM_FEEDFORWARD: int = 2048
    ENC_LAYERS: int = 0
    DEC_LAYERS: int = 10  # predictions; real layers are one fewer
    PRE_NORM: bool = False
    HIDDEN_DIM: int = 256
    NUM_OBJECT_QUERIES: int = 100
    TRANSFORMER_IN_FEATURE: str = "multi_scale_pixel_decoder"
    ENFORCE_INPUT_PROJ: bool = False
    SIZE_DIVISIBILITY: int = 32
    TRANSFORMER_DECODER_NAME: str = "MultiScaleMaskedTransformerDecoder"
    TRAIN_NUM_POINTS: int = 12544
    OVERSAMPLE_RATIO: float = 3.0
    IMPORTANCE_SAMPLE_RATIO: float = 0.75
    TEST: MaskFormerTest = field(default_factory=MaskFormerTest)


@dataclass
class Model:
    META_ARCHITECTURE: str = "MaskFormer"
    WEIGHTS: str = ""
    DEVICE: str = "auto"
    MASK_ON: bool = False
    PIXEL_MEAN: list[float] = _list(123.675, 116.28, 103.53)
    PIXEL_STD: list[float] = _list(58.395, 57.12, 57.375)
    BACKBONE: Backbone = field(default_factory=Backbone)
    RESNETS: ResNets = field(default_factory=ResNets)
    SWIN: Swin = field(default_factory=Swin)
    HORNET: HorNet = field(default_factory=HorNet)
    SEM_SEG_HEAD: SemSegHead = field(default_factory=SemSegHead)
    MASK_FORMER: MaskFormer = field(default_factory=MaskFormer)


@dataclass
class Crop:
    ENABLED: bool = False
    TYPE: str = "absolute"
    SIZE: list[float] = _list(0.9, 0.9)
    SINGLE_CATEGORY_MAX_AREA: float = 1.0


@dataclass
class Input:
    DATASET_MAPPER_NAME: str = "mask_former_semantic"
    FORMAT: str = "RGB"
    MASK_FORMAT: str = "polygon"
    MIN_SIZE_TRAIN: Any = _list(800)
    MIN_SIZE_TRAIN_SAMPLING: str = "choice"
    MAX_SIZE_TRAIN: int = 1333
    MIN_SIZE_TEST: int = 800
    MAX_SIZE_TEST: int = 1333
    RANDOM_FLIP: str = "horizontal"
    COLOR_AUG_SSD: bool = False
    SIZE_DIVISIBILITY: int = -1
    IMAGE_SIZE: int = 1024
    MIN_SCALE: float = 0.1
    MAX_SCALE: float = 2.0
    CROP: Crop = field(default_factory=Crop)
    SAMPLING_FRAME_NUM: int = 2
    SAMPLING_FRAME_RANGE: int = 20
    SAMPLING_FRAME_SHUFFLE: bool = False
    AUGMENTATIONS: list[str] = _list()


@dataclass
class Datasets:
    TRAIN: list[str] = _list()
    TEST: list[str] = _list()
    CATALOGS: list[str] = _list()


@dataclass
class DataLoader:
    NUM_WORKERS: int = 4
    FILTER_EMPTY_ANNOTATIONS: bool = True
    ASPECT_RATIO_GROUPING: bool = True


@dataclass
class ClipGradients:
    ENABLED: bool = True
    CLIP_TYPE: str = "full_model"
    CLIP_VALUE: float = 0.01
    NORM_TYPE: float = 2.0


@dataclass
class Amp:
    ENABLED: bool = True
    PRECISION: str = ""


@dataclass
class Solver:
    IMS_PER_BATCH: int = 16
    ACCUMULATE: int = 1
    OPTIMIZER: str = "ADAMW"
    BASE_LR: float = 1e-4
    BACKBONE_MULTIPLIER: float = 0.1
    MOMENTUM: float = 0.9
    WEIGHT_DECAY: float = 0.05
    WEIGHT_DECAY_NORM: float = 0.0
    WEIGHT_DECAY_EMBED: float = 0.0
    LR_SCHEDULER_NAME: str = "WarmupMultiStepLR"
    MAX_ITER: int = 40000
    STEPS: list[int] = _list()
    GAMMA: float = 0.1
    WARMUP_FACTOR: float = 1.0
    WARMUP_ITERS: int = 0
    WARMUP_METHOD: str = "linear"
    POLY_LR_POWER: float = 0.9
    POLY_LR_CONSTANT_ENDING: float = 0.0
    CHECKPOINT_PERIOD: int = 5000
    CLIP_GRADIENTS: ClipGradients = field(default_factory=ClipGradients)
    AMP: Amp = field(default_factory=Amp)


@dataclass
class Aug:
    ENABLED: bool = False
    MIN_SIZES: list[int] = _list(400, 500, 600, 700, 800, 900, 1000, 1100, 1200)
    MAX_SIZE: int = 4000
    FLIP: bool = True


@dataclass
class Test:
    EVAL_PERIOD: int = 5000
    DETECTIONS_PER_IMAGE: int = 100
    BATCH_SIZE: int = 1
    PRECISION: str = "fp32"  # as published; bf16, fp16 (GPU only), or "" for the best mixed one
    AUG: Aug = field(default_factory=Aug)


@dataclass
class Entity:
    ENABLE: bool = False
    CROP_AREA_RATIO: float = 0.7
    CROP_STRIDE_RATIO: float = 0.6
    CROP_SAMPLE_NUM_TRAIN: int = 1
    CROP_SAMPLE_NUM_TEST: int = 4
    FUSE_NUM_LAYERS: int = 1
    FUSE_ENC_HIDDIEN_DIM: int = 256
    FUSE_ENC_NHEADS: int = 8
    FUSE_ENC_PRE_NORM: bool = False
    FUSE_ENC_DIM_FEEDFORWARD: int = 2048


@dataclass
class Config:
    VERSION: int = 2
    OUTPUT_DIR: str = "./output"
    SEED: int = -1
    MODEL: Model = field(default_factory=Model)
    INPUT: Input = field(default_factory=Input)
    DATASETS: Datasets = field(default_factory=Datasets)
    DATALOADER: DataLoader = field(default_factory=DataLoader)
    SOLVER: Solver = field(default_factory=Solver)
    TEST: Test = field(default_factory=Test)
    ENTITY: Entity = field(default_factory=Entity)
    # "" as torch has it; "highest", "high" (TF32 on CUDA) or "medium", for products of float32
    FLOAT32_PRECISION: str = ""


# Keys that stand in the schema because published files repeat them; any other value than the
# default changes nothing here, and is logged.
INERT = frozenset(
    """
    VERSION MODEL.BACKBONE.FREEZE_AT MODEL.RESNETS.STRIDE_IN_1X1 MODEL.RESNETS.OUT_FEATURES
    MODEL.SWIN.QK_SCALE MODEL.SWIN.DROP_RATE MODEL.SWIN.ATTN_DROP_RATE MODEL.SWIN.OUT_FEATURES
    MODEL.HORNET.GCONV MODEL.HORNET.OUT_FEATURES MODEL.SEM_SEG_HEAD.LOSS_WEIGHT
    MODEL.SEM_SEG_HEAD.IGNORE_VALUE MODEL.MASK_FORMER.ENC_LAYERS MODEL.MASK_ON
    INPUT.CROP.TYPE INPUT.MIN_SIZE_TRAIN_SAMPLING INPUT.MASK_FORMAT INPUT.AUGMENTATIONS
    INPUT.SAMPLING_FRAME_NUM INPUT.SAMPLING_FRAME_RANGE INPUT.SAMPLING_FRAME_SHUFFLE
    ENTITY.FUSE_ENC_PRE_NORM
    """.split()
)
INSTEAD = {  # of some of them, what counts in their place
    "MODEL.SEM_SEG_HEAD.IGNORE_VALUE": "the catalogue's ignore_label counts",
    "MODEL.MASK_ON": "MODEL.MASK_FORMER.TEST says what is made",
    "INPUT.MASK_FORMAT": "each annotation is read as it is",
}
# MODEL.SWIN.PRETRAIN_IMG_SIZE is not among them: published files set it, and only APE reads it,
# which is refused; so it changes nothing anywhere.

# The smallest and the largest value of numbers that may not be any.
RANGES: dict[str, tuple[float, float]] = {
    "MODEL.MASK_FORMER.DEC_LAYERS": (1, inf),
    "MODEL.MASK_FORMER.DIM_FEEDFORWARD": (1, inf),
    "MODEL.MASK_FORMER.DROPOUT": (0, 1),
    "MODEL.MASK_FORMER.HIDDEN_DIM": (1, inf),
    "MODEL.MASK_FORMER.IMPORTANCE_SAMPLE_RATIO": (0, 1),
    "MODEL.MASK_FORMER.NHEADS": (1, inf),
    "MODEL.MASK_FORMER.NUM_OBJECT_QUERIES": (1, inf),
    "MODEL.MASK_FORMER.OVERSAMPLE_RATIO": (1, inf),
    "MODEL.MASK_FORMER.TRAIN_NUM_POINTS": (1, inf),
    "MODEL.SEM_SEG_HEAD.CONVS_DIM": (1, inf),
    "MODEL.SEM_SEG_HEAD.ENC_FFN_DIM": (1, inf),
    "MODEL.SEM_SEG_HEAD.MASK_DIM": (1, inf),
    "MODEL.SEM_SEG_HEAD.NUM_CLASSES": (0, inf),
    "MODEL.SEM_SEG_HEAD.TRANSFORMER_ENC_LAYERS": (1, inf),
    "INPUT.IMAGE_SIZE": (1, inf),
    "INPUT.MAX_SIZE_TEST": (1, inf),
    "INPUT.MAX_SIZE_TRAIN": (1, inf),
    "INPUT.MIN_SIZE_TEST": (0, inf),
    "DATALOADER.NUM_WORKERS": (0, inf),
    "SOLVER.ACCUMULATE": (1, inf),
    "SOLVER.BASE_LR": (0, inf),
    "SOLVER.CHECKPOINT_PERIOD": (0, inf),
    "SOLVER.IMS_PER_BATCH": (1, inf),
    "SOLVER.MAX_ITER": (0, inf),
    "SOLVER.WARMUP_ITERS": (0, inf),
    "SOLVER.WEIGHT_DECAY": (0, inf),
    "TEST.BATCH_SIZE": (1, inf),
    "TEST.DETECTIONS_PER_IMAGE": (1, inf),
    "TEST.EVAL_PERIOD": (0, inf),
    "ENTITY.CROP_SAMPLE_NUM_TEST": (0, inf),
    "ENTITY.CROP_SAMPLE_NUM_TRAIN": (0, inf),
    "ENTITY.FUSE_ENC_NHEADS": (1, inf),
}
DIVIDES = {  # heads share the channels evenly
    "MODEL.MASK_FORMER.NHEADS": "MODEL.MASK_FORMER.HIDDEN_DIM",
    "ENTITY.FUSE_ENC_NHEADS": "ENTITY.FUSE_ENC_HIDDIEN_DIM",
}

# Keys of detectron2 and the old repositories that change nothing here; using one is logged.
ACCEPTED_UNUSED = frozenset(
    """
    CUDNN_BENCHMARK GLOBAL VIS_PERIOD DATALOADER.SAMPLER_TRAIN
    DATALOADER.REPEAT_THRESHOLD DATALOADER.REPEAT_SQRT DATASETS.PRECOMPUTED_PROPOSAL_TOPK_TEST
    DATASETS.PRECOMPUTED_PROPOSAL_TOPK_TRAIN DATASETS.PROPOSAL_FILES_TEST
    DATASETS.PROPOSAL_FILES_TRAIN ENTITY.FUSE_DEC_NUM_LAYERS ENTITY.FUSE_ENC_LAST_LAYERS
    MODEL.ANCHOR_GENERATOR MODEL.FPN MODEL.KEYPOINT_ON MODEL.LOAD_PROPOSALS MODEL.PANOPTIC_FPN
    MODEL.PROPOSAL_GENERATOR MODEL.RETINANET MODEL.ROI_BOX_CASCADE_HEAD MODEL.ROI_BOX_HEAD
    MODEL.ROI_HEADS MODEL.ROI_KEYPOINT_HEAD MODEL.ROI_MASK_HEAD MODEL.RPN MODEL.SWINT
    MODEL.RESNETS.DEFORM_MODULATED MODEL.RESNETS.DEFORM_NUM_GROUPS
    MODEL.RESNETS.DEFORM_ON_PER_STAGE MODEL.RESNETS.NUM_GROUPS MODEL.RESNETS.RES2_OUT_CHANNELS
    MODEL.RESNETS.RES4_DILATION MODEL.RESNETS.RES5_DILATION MODEL.RESNETS.RES5_MULTI_GRID
    MODEL.RESNETS.STEM_OUT_CHANNELS MODEL.RESNETS.STEM_TYPE MODEL.RESNETS.WIDTH_PER_GROUP
    MODEL.SEM_SEG_HEAD.ASPP_CHANNELS MODEL.SEM_SEG_HEAD.ASPP_DILATIONS
    MODEL.SEM_SEG_HEAD.ASPP_DROPOUT MODEL.SEM_SEG_HEAD.LOSS_TYPE MODEL.SEM_SEG_HEAD.NUM_CONVS
    MODEL.SEM_SEG_HEAD.DEFORMABLE_TRANSFORMER_ENCODER_N_HEADS
    MODEL.SEM_SEG_HEAD.DEFORMABLE_TRANSFORMER_ENCODER_N_POINTS
    MODEL.SEM_SEG_HEAD.PROJECT_CHANNELS MODEL.SEM_SEG_HEAD.PROJECT_FEATURES
    MODEL.SEM_SEG_HEAD.USE_DEPTHWISE_SEPARABLE_CONV SOLVER.BIAS_LR_FACTOR SOLVER.LR_SCHEDULER
    SOLVER.NESTEROV SOLVER.REFERENCE_WORLD_SIZE SOLVER.WEIGHT_DECAY_BIAS
    SOLVER.BASE_LR_END SOLVER.NUM_DECAYS SOLVER.RESCALE_INTERVAL
    TEST.EXPECTED_RESULTS TEST.KEYPOINT_OKS_SIGMAS TEST.PRECISE_BN
    """.split()
)

"""The `segcore` command: all verbs and their flags.

What a verb does is imported when it is asked for, so that --help answers at once. Every verb ends
with a status: 0, what its `main` returns, or 1 after one line that says what is wrong.
"""

from __future__ import annotations

from typing import Any

import click

from segcore.cli.flags import (
    FILE,
    FREE,
    ManyWords,
    call,
    run,
    split_words,
    takes_config,
    takes_machines,
    takes_wishes,
)

SHARE = click.FloatRange(0, 1)
EXPORTS = ("onnx", "openvino", "torchscript", "torch-export")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="segcore")
def main() -> None:
    """Image segmentation: train, evaluate and run Mask2Former and its relatives.

    CONFIG is a YAML file, or the name of one that comes along, as in
    coco/panoptic-segmentation/maskformer2_R50_bs16_50ep.yaml. KEY VALUE pairs are laid over it.
    """


@main.command(context_settings=FREE)
@click.option("--eval-only", is_flag=True, help="as `segcore eval`")
@click.option("--data", help="in place of CONFIG: a data set that a config is planned for")
@click.option("--val", help="--data: what is evaluated; default: a fifth that is held back")
@click.option("--overwrite", is_flag=True, help="--data: plan anew, whatever plan is there already")
@click.option("--overfit", type=click.IntRange(1), metavar="N", help="on the first N images alone")
@takes_wishes
@takes_machines
@takes_config
def train(
    eval_only: bool,
    overfit: int | None,
    data: str | None,
    val: str | None,
    overwrite: bool,
    task: str | None,
    network: str | None,
    minutes: float | None,
    **given: Any,
) -> None:
    """Train on DATASETS.TRAIN and evaluate on DATASETS.TEST.

    With --data the config is what `segcore plan` writes for it, into OUTPUT_DIR/plan.yaml; where
    that file is there already it is used as it is, unless --overwrite plans anew. With --overfit N
    the first N images of DATASETS.TRAIN are trained and evaluated on as they are, in
    OUTPUT_DIR/overfit: the metric should come near 100, or data or labels are not what they seem.
    """
    if eval_only and overfit:
        raise click.UsageError("--eval-only and --overfit exclude each other")
    wishes = {"val": val, "task": task, "network": network, "minutes": minutes}
    asked = {**wishes, "overwrite": overwrite or None}
    if data is None and (meant := [f"--{name}" for name in asked if asked[name] is not None]):
        raise click.UsageError(f"{meant[0]} is for a plan, which --data asks for")
    if data is not None:
        given |= split_words(given["config_file"], given.pop("words"))
        if given["config_file"] or eval_only:
            raise click.UsageError("--data makes a config of its own: no CONFIG, no --eval-only")
        shared = {name: given[name] for name in ("opts", "resume", "num_gpus", "num_machines")}
        shared["overwrite"] = overwrite
        path = call("segcore.cli.plan", "plan_of_run", data=data, **wishes, **shared)
        given["config_file"] = str(path)
    if eval_only:
        run("segcore.cli.evaluate", **given)
    else:
        run("segcore.cli.train", overfit=overfit or 0, **given)


@main.command("eval", context_settings=FREE)
@click.option("--eval-only", is_flag=True, hidden=True, expose_value=False)
@click.option("--report", is_flag=True, help="a page with pictures of where it fails, too")
@takes_machines
@takes_config
def evaluate(**given: Any) -> None:
    """Evaluate MODEL.WEIGHTS on DATASETS.TEST.

    With --resume the last checkpoint in OUTPUT_DIR is evaluated. With --report (or TEST.REPORT
    always) OUTPUT_DIR/inference/DATA_SET/report.html shows where the model fails.
    """
    run("segcore.cli.evaluate", **given)


@main.command(cls=ManyWords)
@click.argument("predictions", type=FILE)
@click.argument("name", metavar="DATA_SET")
@click.option("--evaluators", multiple=True, help="what to measure; default: as the data set says")
@click.option("--catalogs", type=FILE, multiple=True, help="more catalogue files")
@click.option("--output", type=FILE, help="a JSON file for the numbers")
@click.option("--report", type=FILE, metavar="OUT.html", help="a page of where they fail")
@click.option("--detections", type=click.IntRange(0), default=0, help="as TEST.AP_DETECTIONS")
def measure(**given: Any) -> None:
    """Measure predictions in files: instances of images, or tracks of videos.

    PREDICTIONS is a COCO results JSON (list of masks), or a folder in the form of Cityscapes'
    scripts; for a data set of videos the results.json that YouTube-VIS's servers take. DATA_SET is
    a name of the catalogue, or a path as DATASETS.TEST takes it:

    \b
    segcore measure coco_instances_results.json lvis_v0.5_val_cocofied
    segcore measure results.json my/val.json --evaluators tracks hota
    segcore measure refined/ cityscapes_fine_instance_seg_val --evaluators cityscapes contour
    """
    run("segcore.cli.measure", **given)


@main.command(cls=ManyWords, context_settings=FREE)
@click.option("--input", "inputs", multiple=True, help="images, globs, directories")
@click.option("--video-input", "videos", multiple=True, help="video files, directories of frames")
@click.option("--output", type=FILE, required=True, help="directory for all results; or a video")
@click.option("--weights", help="checkpoint; default: the config's MODEL.WEIGHTS")
@click.option("--confidence-threshold", "threshold", type=SHARE, default=0.5, show_default=True)
@click.option("--batch-size", type=click.IntRange(1), default=1, show_default=True)
@click.option("--num-crops", type=int, help="that CropFormer looks at; 0: the whole image alone")
@click.option("--overwrite", is_flag=True, help="do finished images again")
@click.option("--refine", metavar="WEIGHTS", help="of boundary patches, which go over all masks")
@click.option("--window", type=click.IntRange(1), default=16, show_default=True, help="of frames")
@click.option("--overlap", type=click.IntRange(0), default=4, show_default=True, help="of windows")
@click.option("--fps", type=float, default=10, show_default=True, help="of directories of frames")
@click.option("--save-frames", is_flag=True, help="of a video, as pictures too")
@click.option("--no-video", is_flag=True, help="of a video: pictures or tracks alone")
@takes_config
def predict(inputs: tuple[str, ...], videos: tuple[str, ...], **given: Any) -> None:
    """Segment images, or follow objects through videos; write a picture and the results of each.

    photo.jpg becomes OUTPUT/photo.png and OUTPUT/photo.json, in the folders that it has below the
    input; two that would share a name get longer ones. Stopped half-way, it goes on where it was:
    an image whose results are there, by the same weights and settings, is not done again.

    clip.mp4 becomes OUTPUT/clip.mp4 and OUTPUT/clip.json, its tracks. Windows of frames go through
    a model for clips, images through others, and their tracks are joined. Stopped half-way, the
    video so far can be played, and the same command goes on behind it.
    """
    if not inputs and not videos:
        raise click.UsageError("Missing option '--input' (images) or '--video-input'.")
    if inputs and videos:
        raise click.UsageError("--input and --video-input exclude each other: run it once for each")
    names = ("window", "overlap", "fps", "save_frames", "no_video")
    of_videos = {name: given.pop(name) for name in names}
    if videos:
        run("segcore.cli.predict_video", needs_config=True, videos=videos, **of_videos, **given)
    else:
        run("segcore.cli.predict", needs_config=True, inputs=inputs, **given)


@main.command()
@click.option("--predictions", type=FILE, required=True, help="file or folder")
@click.option("--images", help="folder, or data set; default: as the predictions say")
@click.option("--weights", required=True, help="of the refiner")
@click.option("--output", type=FILE, required=True, help="file or folder, as the predictions are")
@click.option("--iou-threshold", type=click.FloatRange(0, 1), default=0.25, show_default=True)
@click.option("--least-area", type=click.IntRange(0), default=0, help="smaller masks stay")
@click.option(
    "--numerics", type=click.Choice(["batch", "demo"]), default="batch", show_default=True
)
@click.option("--batch-size", type=click.IntRange(1), help="patches at a time")
@click.option("--precision", type=click.Choice(["fp32", "bf16", "fp16"]), default="fp32")
@click.option("--device", default="auto", show_default=True)
@click.option("--keep-missing", is_flag=True, help="masks of images that are not there stay")
@click.option("--catalogs", type=FILE, multiple=True, help="more catalogue files")
def refine(**given: Any) -> None:
    """Sharpen the edges of any model's predictions.

    \b
    PREDICTIONS is COCO's list of results (results.json), a folder of Cityscapes' results, or the
    output of `segcore predict`; OUTPUT gets the same form. IMAGES is a folder whose images are
    called by their ids, or a data set as DATASETS.TEST names it.

    Stopped half-way, it goes on where it was when it is started again.
    """
    run("segcore.cli.refine", **given)


@main.command("cut-patches")
@click.argument("name", metavar="DATA_SET")
@click.option("--output", type=FILE, required=True, help="a new .npy file")
@click.option("--predictions", type=FILE, help="of the images; default: annotations made worse")
@click.option("--min-iou", type=click.FloatRange(0, 1), default=0.5, show_default=True)
@click.option("--count", type=click.IntRange(0), default=0, help="instances to draw; 0: all")
@click.option("--iou-threshold", type=click.FloatRange(0, 1), default=0.25, show_default=True)
@click.option("--size", type=click.IntRange(2), default=64, show_default=True, help="of a patch")
@click.option("--catalogs", type=FILE, multiple=True, help="more catalogue files")
def cut_patches(**given: Any) -> None:
    """Cut the patches that boundary refinement is trained on, all into one file.

    DATA_SET is a name of the catalogue, or a path as DATASETS.TRAIN takes it. PREDICTIONS are a
    model's masks of its images, as `segcore refine` takes them; those that overlap their object by
    less than MIN_IOU are left out.
    """
    run("segcore.cli.cut_patches", **given)


@main.command(cls=ManyWords)
@click.argument("name", metavar="SOURCE")
@click.argument("output", type=FILE)
@click.option("--to", "format", required=True, metavar="FORMAT", help="yolo, coco_instances ...")
@click.option("--split", default="train", show_default=True, help="what SOURCE is called there")
@click.option("--link", is_flag=True, help="images become symbolic links, no copies")
@click.option("--catalogs", type=FILE, multiple=True, help="more catalogue files")
def convert(**given: Any) -> None:
    """Write a data set in another file format.

    SOURCE is a name of the catalogue, or a path as DATASETS.TRAIN takes it; OUTPUT is a folder,
    which may have other splits already. What FORMAT cannot hold is counted and named; faults of
    SOURCE are, too, and what they spoil is left out (status 1). docs/formats.md has the formats.

    \b
    segcore convert my/train.json@my/images my/yolo --to yolo
    segcore convert my/val.json@my/images my/yolo --to yolo --split val
    """
    run("segcore.cli.convert_data", **given)


@main.command("convert-weights")
@click.argument("kind", type=click.Choice(["swin", "torchvision", "timm", "official", "entity"]))
@click.argument("source")
@click.argument("goal", type=FILE)
@click.option("--config-file", metavar="FILE", help="official: of the model; default: as in SOURCE")
def convert_weights(**given: Any) -> None:
    """Convert weights for configs, or to official files.

    \b
    segcore convert-weights swin        swin_tiny_patch4_window7_224.pth  OUT.pkl
    segcore convert-weights torchvision resnet50-0676ba61.pth             R-50.pkl
    segcore convert-weights timm        model.safetensors                 OUT.pth
    segcore convert-weights official    output/model_final.pth            OUT.pkl
    segcore convert-weights official    hf://owner/repo                   OUT.pkl
    segcore convert-weights entity      model_final_of_COCO.pkl           OUT.pth

    SOURCE is whatever MODEL.WEIGHTS takes. What was written is loaded again: into the model of the
    config that SOURCE carries or --config-file names, whatever its architecture. `entity` makes a
    start for entities (ENTITY.ENABLE) out of any trained Mask2Former: its class head is left out,
    prefixes that were written twice are put right.
    """
    run("segcore.cli.convert", **given)


@main.command("export", context_settings=FREE)
@click.option("--to", required=True, type=click.Choice(EXPORTS), help="the file's format")
@click.option("--output", type=FILE, metavar="FILE", help="default: OUTPUT_DIR/model.onnx ...")
@click.option("--size", type=click.IntRange(32), nargs=2, metavar="H W", help="of all images")
@click.option("--dynamic", is_flag=True, help="images of any size, in multiples of 32")
@click.option("--pixels", "kind", type=click.Choice(["uint8", "float32"]), default="uint8")
@click.option("--post", is_flag=True, help="results too: scores, labels, masks, maps")
@click.option("--custom-op", "custom", is_flag=True, help="torch-export: keep our sampling op")
@click.option("--int8", metavar="DATA", help="quantised on images: a folder, or a data set's name")
@click.option("--int8-images", type=click.IntRange(1), default=100, show_default=True)
@takes_config
def export(size: tuple[int, int] | None, dynamic: bool, **given: Any) -> None:
    """Write a model for other runtimes: ONNX, OpenVINO, TorchScript, torch.export.

    The file takes pixels and gives logits of classes and masks; it holds its classes, colours and
    how images are resized. It is run at once, and compared with the model; what was compared lies
    beside it, in FILE.parity.npz and FILE.parity.jsonl. docs/export.md has what runs where.

    \b
    segcore export output/config.yaml --to onnx --size 800 1216 --output model.onnx \\
        MODEL.WEIGHTS output/model_final.pth
    """
    if bool(size) == dynamic:
        raise click.UsageError("give --size H W, for every model, or --dynamic, for most")
    run("segcore.cli.export", needs_config=True, size=size, **given)


@main.command(context_settings=FREE)
@click.option(
    "--size", type=click.IntRange(1), nargs=2, default=(800, 1216), show_default=True, metavar="H W"
)
@click.option("--repeat", type=click.IntRange(1), default=3, show_default=True)
@click.option("--memory", is_flag=True, help="of the worst images of the data sets, instead")
@click.option("--num-gpus", type=click.IntRange(1), default=1, help="--memory: of the training")
@takes_config
def analyze(size: tuple[int, int], repeat: int, memory: bool, num_gpus: int, **given: Any) -> None:
    """What a model costs by part: parameters, FLOPs, time.

    With --memory: what a training step and an inference take of the images of DATASETS.TRAIN and
    DATASETS.TEST that need most; status 1 where it is more than there is.
    """
    if memory:
        run("segcore.cli.analyze_memory", needs_config=True, num_gpus=num_gpus, **given)
    run("segcore.cli.analyze", needs_config=True, size=size, repeat=repeat, **given)


@main.command(cls=ManyWords, context_settings=FREE)
@click.argument("names", nargs=-1, type=click.UNPROCESSED, metavar="[DATA]... [KEY VALUE]...")
@click.option("--config", "config_file", metavar="FILE", help="what the data is for")
@click.option("--images", is_flag=True, help="read every pixel, and look for duplicates")
@click.option("--strict", is_flag=True, help="status 1 for warnings too")
@click.option("--report", type=FILE, metavar="OUT.html", help="all of it on a page with pictures")
@click.option("--fix", type=FILE, metavar="OUT.json", help="a COCO file with what can be mended")
@click.option("--catalogs", type=FILE, multiple=True, help="more catalogue files")
def doctor(**given: Any) -> None:
    """What data sets hold, and what is wrong with them.

    DATA are names of the catalogue, or paths as DATASETS.TRAIN takes them, the training set first;
    left out, they are those of the config. KEY VALUE pairs are laid over the config.

    \b
    segcore doctor my/train.json@my/images my/val.json@my/images --report report.html
    segcore doctor my/train.json@my/images --config small/instance_lite0.yaml
    """
    run("segcore.cli.doctor", **given)


@main.command("plan", context_settings=FREE)
@click.argument("data", metavar="DATA")
@click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="[VAL] [KEY VALUE]...")
@click.option("--output", type=FILE, default="plan.yaml", show_default=True)
@click.option("--overwrite", is_flag=True, help="replace OUTPUT where it is there already")
@takes_wishes
@click.option("--catalogs", type=FILE, multiple=True, help="more catalogue files")
def plan_recipe(words: tuple[str, ...], **given: Any) -> None:
    """Write a training config for a data set and this machine.

    DATA and VAL are names of the catalogue, or paths as DATASETS.TRAIN takes them; without VAL a
    fifth of the images is held back. Each line of the config has its reason beside it: what the
    data hold, and what steps were measured to take here. KEY VALUE pairs are as `segcore train`
    will get them.

    \b
    segcore plan my/train.json@my/images my/val.json@my/images --minutes 30
    segcore train plan.yaml
    """
    val = words[0] if len(words) % 2 else None
    run("segcore.cli.plan", val=val, opts=words[len(words) % 2 :], **given)


@main.command(context_settings=FREE | {"allow_interspersed_args": False})
@click.argument("name")
@click.argument("flags", nargs=-1, type=click.UNPROCESSED, metavar="[FLAGS]...")
def prepare(**given: Any) -> None:
    """Make files of a data set that were not published.

    NAME is ade20k_sem_seg, ade20k_ins_seg, ade20k_pan_seg, cocofied_lvis, video_masks or
    coco_semantic_annos_from_panoptic_annos (see datasets/README.md). What FLAGS it takes:

    segcore prepare NAME --help
    """
    run("segcore.cli.prepare", **given)


@main.command(cls=ManyWords, context_settings=FREE)
@click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="[KEY VALUE]...")
@click.option("--config", "config_file", metavar="FILE", help="default: COCO instances, R50")
@click.option("--only", multiple=True, help="contenders whose names have one of these words")
@click.option("--size", type=click.IntRange(32), nargs=2, default=(800, 1216), show_default=True)
@click.option("--step-size", type=click.IntRange(32), default=512, show_default=True)
@click.option("--repeat", type=click.IntRange(1), default=5, show_default=True)
@click.option("--threads", type=click.IntRange(0), default=0, help="0: torch's choice")
@click.option("--json", type=FILE, metavar="FILE", help="every run's numbers as well")
def bench(**given: Any) -> None:
    """Time an image and a training step here, beside other libraries.

    Beside ours run transformers' Mask2Former, eager and compiled, and our model exported to ONNX
    Runtime and OpenVINO, as far as they are installed. Each has a process of its own; all are in
    memory at once and run in turn. Weights are random unless MODEL.WEIGHTS is given.

    \b
    segcore bench --only "image: ours" "image: OpenVINO" --threads 2
    segcore bench --config coco/instance-segmentation/swin/maskformer2_swin_tiny_bs16_50ep.yaml
    """
    run("segcore.cli.bench", **given)


@main.command("bench-loader")
@click.option("--data", help="ANNOTATIONS@IMAGES; default: drawn")
@click.option("--count", type=click.IntRange(1), default=50, show_default=True, help="images")
@click.option("--annotations", is_flag=True, help="start-up with a file of COCO's size instead")
def bench_loader(**given: Any) -> None:
    """Time the reading and transforming of training images."""
    run("segcore.cli.bench_loader", **given)


if __name__ == "__main__":
    main()

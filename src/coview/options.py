"""What every verb takes, declared once: the command line and the Python functions read this.

An option is one field of one class here. A setting of a recipe names the field of the recipe that
it ``changes``, or a function of ``coview.recipes.changes`` where one field is not enough. This
module imports no torch, so that ``coview VERB --help`` is quick.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coview.core.option_checks import IMAGES, NETWORK, NETWORKS, READ, RUN, VECTORS
from coview.core.options import argument, option

DATA, LEARNED, TRAINED = "the data", "what is learned", "how it is trained"
MACHINE, OUTPUT = "the machine", "what is printed"
GROUPS = (LEARNED, TRAINED, DATA, MACHINE, OUTPUT)
"""The groups of a help text, in order."""
MAX_PIXELS = 1 << 26
"""Of an image as it is decoded: 8192 x 8192, which takes 256 MB."""

# The formatter would give every argument of an option its own line.
# fmt: off


@dataclass(frozen=True, kw_only=True)
class CommandOptions:
    """What every command of the command line takes besides the options of its function."""

    quiet: bool = option("print warnings, errors and the end only", False, group=OUTPUT)
    json: bool = option(
        "print the result as JSON on the standard output, everything else on the standard error",
        False, group=OUTPUT)


@dataclass(frozen=True, kw_only=True)
class TrainingCommandOptions(CommandOptions):
    """What a command that trains takes besides the options of its function."""

    processes: int | None = option(
        "run in so many processes on this machine, each on a GPU of its own where there are GPUs",
        group=MACHINE)


@dataclass(frozen=True, kw_only=True)
class ImportOptions:
    """Code of the user. A run records the file and its hash, and what opens it imports it again."""

    import_: tuple[str, ...] = option(
        "a Python file of yours that registers methods or recipes, or defines objectives; may be "
        "repeated", (), group=LEARNED)


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """How images are found, labeled and decoded. None and "auto" leave the choice to the source."""

    labels_from: str = option(
        "where labels come from: auto, none, folders, column. Self-supervised methods use them "
        "only to show kNN accuracy during training, and for them auto takes no sub-folders",
        "auto", group=DATA)
    split: str | None = option(
        "train, val or test part, of data that has parts (torchvision's, scenes, folders named "
        "so), or all (default: train, or the only part)", group=DATA)
    limit: int | None = option("use at most this number of images", group=DATA)
    short_side: int | None = option("keep images at this short side, in pixels", group=DATA)
    image_column: str | None = option(
        "the column of images in Parquet files, or of paths in a table", group=DATA)
    label_column: str | None = option(
        "the column of labels in Parquet files and tables; in tar shards a field of .json",
        group=DATA)
    white: float | None = option(
        "the value of white in images of more than 8 bits that do not say it", group=DATA)
    max_pixels: int = option(
        "images with more pixels, as decoded, are left out", MAX_PIXELS, group=DATA)
    allow_broken: bool = option("go on with more than 1 % of broken files", False, group=DATA)
    download: bool = option("allow a torchvision data set to be fetched", False, group=DATA)
    root: Path | None = option(
        "where torchvision data sets lie (default: the cache folder)", group=DATA)
    memory_share: float = option(
        "share of RAM for decoded images; beyond it they lie on disk, or where they do not fit "
        "there ($COVIEW_CACHE_LIMIT, default 20GB) are decoded on demand", 0.25, group=DATA)
    cache: Path | None = option(
        "where decoded images lie (default: $COVIEW_CACHE or ~/.cache/coview); none: not on disk",
        group=DATA)


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """Settings of any recipe; None and False keep what the recipe says.

    ``changes`` names the field of the recipe that an option sets, or the function of
    ``coview.recipes.changes`` where one field is not enough.
    """

    size: int | None = option("side of the views in pixels", group=LEARNED, changes="with_size")
    epochs: float | None = option("passes over the images", group=TRAINED, changes="with_epochs")
    batch_size: int | None = option(
        "images in a step", group=TRAINED, also=("--batch",), changes="batch_size")
    classes_per_batch: int | None = option(
        "draw each batch from this number of classes, equally many images of each", group=TRAINED,
        changes="classes_per_batch")
    micro_batch: int | None = option(
        "images that go through the network at a time; the loss is still the whole batch's",
        group=TRAINED, changes="passes.micro_batch")
    activation_checkpointing: bool = option(
        "keep less for the backward pass and recompute it: exact, about a third slower", False,
        group=TRAINED, changes="passes.activation_checkpointing")
    optimizer: str | None = option("sgd, adamw or lars", group=TRAINED, changes="with_optimizer")
    learning_rate: float | None = option(
        "the peak, not scaled by the batch", group=TRAINED, changes="with_learning_rate")
    warmup_epochs: float | None = option(
        "epochs of linear warm-up", group=TRAINED, changes="schedule.warmup_epochs")
    weight_decay: float | None = option(
        "of kernels", group=TRAINED, changes="optimizer.weight_decay")
    seed: int | None = option("of weights, order and views", group=TRAINED, changes="seed")
    set: tuple[str, ...] = option(
        "any other field of the recipe, as method.objective.temperature=0.2; may be repeated "
        "(`coview recipes NAME` lists the fields)", (), group=TRAINED)
    precision: str | None = option("auto, bf16 or fp32", group=MACHINE, changes="precision")

    def settings(self) -> dict[str, Any]:
        """The settings of a recipe that are there: what each changes -> its value."""
        values = {
            f.metadata.get("changes"): getattr(self, f.name) for f in dataclasses.fields(self)
        }
        return {
            changes: value
            for changes, value in values.items()
            if changes and value is not None and value is not False
        }

    def sets(self, path: str) -> bool:
        """Whether a text of `set` gives the field of the recipe at ``path``, or what holds it.

        >>> options = TrainingOptions(set=("optimizer.learning_rate=0.1", "seed=1"))
        >>> options.sets("optimizer.learning_rate"), options.sets("optimizer.name")
        (True, False)
        """
        return any(f"{path}.".startswith(f"{text.partition('=')[0]}.") for text in self.set)


@dataclass(frozen=True, kw_only=True)
class RecipeOptions(TrainingOptions):
    """Settings of a recipe that compares views, besides those of any recipe."""

    encoder: Any = option(
        "as resnet18, resnet50, resnet18/4, torchvision:NAME, timm:NAME, or FILE.py:NAME, a class "
        "or function of yours that gives a torch module", group=LEARNED,
        changes="with_encoder")
    temperature: float | None = option("of the loss", group=LEARNED, changes="with_temperature")
    learn_temperature: bool = option(
        "train the temperature too, from its first value", False, group=LEARNED,
        changes="with_learned_temperature")
    jitter_strength: float | None = option(
        "of the color jitter, SimCLR's s", group=LEARNED, changes="with_jitter_strength")
    local_crops: int | None = option(
        "add this number of small crops, which are compared with the two large ones (multi-crop)",
        group=LEARNED, changes="with_local_crops")
    affinity: str | None = option(
        "LoGo's affinity of local crops, which repel each other: learned, cosine or none; adds "
        "two local crops where there are none", group=LEARNED, changes="with_affinity")


@dataclass(frozen=True, kw_only=True)
class MachineOptions:
    """Where a run computes and reports."""

    device: str = option("auto, cpu, cuda or mps", "auto", group=MACHINE)
    workers: int | None = option("threads that decode images and render views ahead", group=MACHINE)
    log_to: tuple[str, ...] = option(
        "send the figures to tensorboard, wandb (offline) or mlflow as well; may be repeated", (),
        group=MACHINE)


@dataclass(frozen=True, kw_only=True)
class RunOptions(MachineOptions, DataOptions, TrainingOptions, ImportOptions):
    """What every kind of training run takes."""

    out: Path | None = option(
        "the run's folder (default: runs/NAME of the data; of finetune, detect and distill "
        "runs/NAME-finetune, -detect and -distill)")
    keep_every: int | None = option(
        "keep the checkpoint of every so many epochs; the last two are kept always", group=TRAINED)
    budget: str | None = option(
        "time for everything, from opening the images to the report, as 30m or 2h: chooses what "
        "fits into it")
    dry_run: bool = option("print the plan and the estimate, train nothing", False)


@dataclass(frozen=True, kw_only=True)
class PretrainOptions(RunOptions, RecipeOptions):
    """Learn a representation of images without labels, say whether it worked, leave an encoder
    and a report. What is not said is chosen for this data and this machine."""

    data: Any = argument(
        "a folder of images (any nesting), Parquet file(s), tar shards, a table of paths (CSV), a "
        "torchvision data set by name, or scenes (the built-in set)", names=IMAGES)
    recipe: Any = option(
        "a method (simclr, simclr-v2, supcon, moco, byol, simsiam, supervised), a recipe by name, "
        "or one to be trained exactly: a file of `coview recipes NAME --json`, or a run", "simclr")
    weights: Path | None = option(
        "start from these weights: an encoder folder, a run, or safetensors", group=LEARNED)
    checkpoint: int | None = option(
        "the step of a kept checkpoint of `weights` (default: its last)", group=LEARNED)


@dataclass(frozen=True, kw_only=True)
class FinetuneOptions(RunOptions):
    """Train a classifier from a pretrained encoder and a few labels, beside a linear probe on the
    same labels and the same network from scratch. Leaves a classifier and a report."""

    start: Path = argument("a run's folder, or an exported encoder's", names=NETWORK)
    data: Any = argument("labeled images, as for pretrain", names=IMAGES)
    checkpoint: int | None = option(
        "the step of a kept checkpoint of `start` (default: its last)", group=LEARNED)
    recipe: Any = option(
        "a recipe by name (finetune-v1-imagenet, finetune-v2-imagenet, finetune-cpu), a file or a "
        "run that holds one (default: one that suits the data and the machine)", None)
    labels: str = option(
        "which labels are used: a share as 1% or 10%, a number as 25-per-class, or a file with "
        "the name of one image in each line", "100%", group=LEARNED)
    label_draw: int = option("which draw of these labels; 1% lies within 10%", 0, group=LEARNED)
    from_layer: int | None = option(
        "the layer of the projection head to start from: 0 is the encoder's output, 1 the first "
        "layer (SimCLRv2; default: what the recipe says)", group=LEARNED)
    test: Any = option(
        "labeled images that the classifier is tested on (default: the test or val part of `data`, "
        "else a fifth)", group=DATA)
    no_baselines: bool = option(
        "leave out the linear probe and the training from scratch", False, group=TRAINED)


@dataclass(frozen=True, kw_only=True)
class DetectOptions(RunOptions):
    """Train a detector (boxes, outlines) or a segmenter from a pretrained encoder, beside the same
    network from scratch. Leaves COCO's and VOC's figures, the detections and a report."""

    start: Path = argument("a run's folder, or an exported encoder's", names=NETWORK)
    data: Any = argument(
        "annotated images: a folder in COCO's layout (annotations/) or VOC's (ImageSets/), a JSON "
        "file in COCO's format, or images/ beside masks/", names=IMAGES)
    task: str | None = option(
        "boxes, masks (boxes and outlines), or semantic (the class of every pixel; default: what "
        "the recipe learns, else boxes)", None, group=LEARNED)
    checkpoint: int | None = option(
        "the step of a kept checkpoint of `start` (default: its last)", group=LEARNED)
    from_scratch: bool = option(
        "take the encoder's architecture only, with random weights", False, group=LEARNED)
    frozen_batch_norm: bool = option(
        "keep the encoder's BatchNorm statistics as they are (default: trained, of all processes "
        "together)", False, group=TRAINED, changes="with_frozen_batch_norm")
    recipe: Any = option(
        "a recipe by name (coco-1x, coco-2x, coco-1x-c4, coco-2x-c4, voc-24k, voc-fcn-30k, "
        "detect-cpu, segment-cpu), a file or a run that holds one (default: one of a CPU)", None)
    images: Path | None = option("the folder of the images of a JSON file", group=DATA)
    test: Any = option(
        "annotated images to test on (default: the val or test part of `data`, else a fifth)",
        group=DATA)
    test_images: Path | None = option("the folder of the images of the test file", group=DATA)
    no_baselines: bool = option("leave out the training from scratch", False, group=TRAINED)


@dataclass(frozen=True, kw_only=True)
class DistillOptions(RunOptions):
    """Train a student to classify images as a teacher does, of the same architecture or a smaller
    one; the images need no labels. Leaves a classifier and a report."""

    teacher: Path = argument(
        "the folder of a fine-tuned run, or an exported classifier's", names=NETWORK)
    data: Any = argument("images, as for pretrain", names=IMAGES)
    student: Any = option(
        "the student's network, as for pretrain's --encoder (default: the teacher's)",
        group=LEARNED, changes="with_encoder")
    start: Path | None = option(
        "a pretrained run or exported encoder that the student starts from (default: from scratch)",
        group=LEARNED)
    checkpoint: int | None = option(
        "the step of a kept checkpoint of `start` (default: its last)", group=LEARNED)
    from_layer: int | None = option(
        "the layer of the projection head of `start` to start from (default: 0, the encoder's "
        "output)", group=LEARNED)
    recipe: Any = option(
        "a recipe by name (distill-imagenet, distill-cpu), a file or a run that holds one "
        "(default: one that suits the machine)", None)
    temperature: float | None = option(
        "of both softmaxes (default: 0.1 for a student like its teacher, else 1)", group=LEARNED,
        changes="with_temperature")
    teacher_weight: float | None = option(
        "the teacher's share of the loss, above 0; the rest is that of the labels (default: 1 "
        "without labels, 0.5 with)", group=LEARNED, changes="method.objective.teacher_weight")
    labels: str | None = option(
        "which labels are used, as for finetune: 1%, 25-per-class or a file; the other images "
        "count as unlabeled (default: none)", group=LEARNED)
    label_draw: int = option("which draw of these labels; 1% lies within 10%", 0, group=LEARNED)
    test: Any = option(
        "labeled images that the student is tested on (default: the test or val part of `data`, "
        "else a fifth, or without labels a small part)", group=DATA)
    no_baselines: bool = option(
        "leave out the training of the student on the labels alone", False, group=TRAINED)


@dataclass(frozen=True, kw_only=True)
class StudyOptions(DataOptions):
    """A paper's experiment: several runs and one report. The same command goes on where it was
    stopped, and draws a finished study again. Without a name, the list of all with their claims."""

    name: Any = argument(
        "a study as simclr/temperature, all, or FILE.py:NAME, one of yours (without one, or with "
        "images in its place: the list)",
        optional=True)
    data: Any = argument(
        "labeled images, as for pretrain (default: scenes, the built-in set)", optional=True,
        names=IMAGES)
    test: Any = option(
        "labeled images that everything is tested on (default: the test or val part of `data`, "
        "else a fifth)", group=DATA)
    out: Path | None = option(
        "the folder of all runs of these data, which studies share (default: studies/NAME of the "
        "data)")
    scale: str = option(
        "how much is trained: tiny (seconds), cpu (two cores, up to about 100 minutes; "
        "simclrv2/chain more than two hours), gpu (hours on one GPU; `dry_run` measures it here), "
        "paper (as published, of ImageNet)", "cpu",
        group=TRAINED)
    seeds: int | None = option("so many seeds (default: by the scale)", group=TRAINED)
    seed: int = option("the first of them", 0, group=TRAINED)
    epochs: float | None = option("of pretraining (default: by the scale)", group=TRAINED)
    encoder: str | None = option("the network (default: by the scale)", group=LEARNED)
    jobs: int = option(
        "runs side by side, each in a process of its own with its share of cores and memory", 1,
        group=MACHINE)
    dry_run: bool = option("print the runs and the estimate, train nothing", False)
    device: str = option("auto, cpu, cuda or mps", "auto", group=MACHINE)
    workers: int | None = option("threads that decode images and render views ahead", group=MACHINE)
    outliers: Any = option(
        "images from elsewhere, for supcon/ood; may be repeated", (), several=True, group=DATA)
    transfer: Any = option(
        "further labeled images, for simclr/transfer, as DATA or TRAIN::TEST; may be repeated", (),
        several=True, group=DATA)
    annotated: Any = option(
        "of logo/dense: images with boxes, or images/ beside masks/, as for detect", group=DATA)
    pretrained: Path | None = option(
        "of simclrv2/chain: a pretrained run that has ended, in place of pretraining",
        group=LEARNED)
    recipe: str | None = option(
        "of simclrv2/chain: the recipe of pretraining (default: simclr-v2-cpu, on a GPU "
        "simclr-v2-cifar)", group=LEARNED)
    student: str = option(
        "of simclrv2/chain: the small network", "resnet10/4-medium", group=LEARNED)
    labels: str = option(
        "of simclrv2/chain: shares of the labels, separated by commas", "1%,10%", group=LEARNED)
    draws: int = option("of simclrv2/chain: draws of each share", 3, group=LEARNED)
    layers: str = option(
        "of simclrv2/chain: layers of the projection head to compare at the fewest labels, "
        "separated by commas", "0,1,last", group=LEARNED)
    finetune_epochs: float | None = option(
        "of simclrv2/chain (default: the recipe's)", group=TRAINED)
    distill_epochs: float | None = option(
        "of simclrv2/chain (default: by the scale)", group=TRAINED)


@dataclass(frozen=True, kw_only=True)
class SweepOptions(MachineOptions, DataOptions, ImportOptions):
    """Every combination of settings of a recipe, each with several seeds: ordinary runs, judged,
    and one table. The same command goes on where it was stopped. A setting that is chosen from the
    table is chosen on the images that judge it: keep the test images out of it, with `split` train
    of data that have parts, or with other images as `test`."""

    data: Any = argument("images, as for pretrain, most often labeled", names=IMAGES)
    test: Any = option(
        "images that runs are judged on (default: the test or val part of `data`, else a fifth)",
        group=DATA)
    recipe: Any = option(
        "a recipe by name, as simclr-cpu, a file of `coview recipes NAME --json`, or a run, whose "
        "recipe it is", "simclr-cpu", group=LEARNED)
    set: Any = option(
        "a field of the recipe with its values, separated by commas (by semicolons where a value "
        "has commas), as method.objective.temperature=0.1,0.2; repeat it for a grid", (),
        several=True, group=TRAINED)
    seeds: int = option("so many seeds of each", 1, group=TRAINED)
    seed: int = option("the first of them", 0, group=TRAINED)
    protocols: Any = option(
        "which judge the runs, separated by commas (default: linear; label-free where the images "
        "have no labels)")
    out: Path | None = option("the folder of the runs (default: sweeps/NAME of the data)")
    jobs: int = option(
        "runs side by side, each in a process of its own with its share of cores and memory", 1,
        group=MACHINE)
    dry_run: bool = option("print the runs and the estimate, train nothing", False)


@dataclass(frozen=True, kw_only=True)
class ResumeOptions(MachineOptions, ImportOptions):
    """Go on with a run where it stopped: the result is the one it would have had. With a number of
    epochs or a budget, also with a run that has ended."""

    run: Path = argument("the run's folder", names=RUN)
    epochs: float | None = option("train on to this number of epochs in all")
    budget: str | None = option("train on for this time, as 30m or 2h")
    data: Any = option("where the images are now, if they have moved")
    test: Any = option("where the test images are now, if they have moved")


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions(DataOptions, ImportOptions):
    """Judge one or several encoders on images, beside the untrained encoder and raw pixels.
    Figures of one run go into its folder and its report, others into a folder with a page."""

    subjects: Any = argument(
        "runs, exported encoders, torchvision:NAME=FILE or timm:NAME=FILE with weights from a file "
        "(random ones without =FILE)", several=True, names=NETWORKS)
    data: Any = argument(
        "labeled images: neighbors and probe training come from here (label-free, contrastive and "
        "invariance need no labels)", names=IMAGES)
    test: Any = option(
        "labeled images that are tested on (default: the test or val part of `data`, else a fifth)")
    protocols: Any = option(
        "which, separated by commas; default: those that need nothing but labels and a few "
        "minutes; all: every one whose data are given", "default")
    out: Path | None = option(
        "the folder of the results (default: that of the run, of anything else evaluations/NAME of "
        "the data)")
    outliers: Any = option(
        "images from elsewhere, which must be told from `data`; may be repeated", (), several=True,
        group=DATA)
    transfer: Any = option(
        "further labeled images that encoders are judged on, as DATA or TRAIN::TEST; may be "
        "repeated", (), several=True, group=DATA)
    corrupted: Path | None = option(
        "a folder of published corrupted images (CIFAR-10-C, ImageNet-C)", group=DATA)
    no_baselines: bool = option("leave out untrained encoders and raw pixels", False)
    seed: int | None = option("of splits and draws (default: that of the only run, else 0)")
    size: int | None = option(
        "side in pixels of the images that networks of torchvision, timm and Python take (default: "
        "their own)")
    checkpoint: int | None = option("the step of a kept checkpoint of the runs (default: the last)")
    device: str = option("auto, cpu, cuda or mps", "auto", group=MACHINE)


@dataclass(frozen=True, kw_only=True)
class CompareOptions:
    """Runs side by side, also those that are going: what differs in recipe and data, verdicts,
    figures with intervals, paired tests, and means over seeds."""

    runs: Any = argument("the folders of two or more runs", several=True)
    out: Path | None = option(
        "an HTML page with their curves over each other, which opens offline (default: none)",
        endings=(".html",))


@dataclass(frozen=True, kw_only=True)
class EmbedOptions(DataOptions, ImportOptions):
    """Turn images into vectors: a table with a row an image, its path, label and one vector a
    layer. The same command on more images embeds only the new ones."""

    run: Path = argument("a run's folder, or an exported encoder's", names=NETWORK)
    data: Any = argument(
        "the images, as for pretrain; one image or several; or - for paths on the standard input",
        several=True, names=IMAGES)
    out: Path | None = option(
        "the file, .parquet, .npy or .csv (default: RUN/embeddings/NAME.parquet)",
        endings=(".parquet", ".npy", ".csv"))
    format: str | None = option(
        "parquet, npy (the vectors alone, with their names in a second file) or csv (default: by "
        "the ending of `out`, else parquet)", choices=("parquet", "npy", "csv"))
    layers: Any = option("h, z, or both separated by a comma", "h")
    images: bool = option(
        "add a column of small pictures, for programs that show them (about 5 kB an image)", False)
    checkpoint: int | None = option(
        "the step of a kept checkpoint of `run` (default: its last)")
    device: str = option("auto, cpu, cuda or mps", "auto", group=MACHINE)


@dataclass(frozen=True, kw_only=True)
class SearchOptions(DataOptions, ImportOptions):
    """The nearest images to one image, or to several examples, by an encoder. Their vectors are
    kept, as `coview embed` keeps them: the next search begins at once."""

    run: Path = argument("a run's folder, or an exported encoder's", names=NETWORK)
    queries: Any = argument(
        "images to search for, each for itself; or - for paths on the standard input",
        several=True, names=IMAGES)
    in_: Any = option(
        "the images to search in, as for pretrain, or the Parquet file of their vectors (default: "
        "those of the run)", group=DATA, names=VECTORS)
    number: int = option("how many images to find for each query", 10, least=1)
    together: bool = option("take the queries as examples of one thing: one search", False)
    negative: Any = option(
        "an image that is no such thing, as an example to stay away from; may be repeated, and "
        "takes the queries together", (), several=True, names=READ)
    layer: str = option("h, the encoder's output, or z", "h")
    index: bool = option(
        "search an approximate index, which is built once and kept beside the table: for 100,000 "
        "images and more (needs the extra index)", False)
    out: Path | None = option("a CSV file of the results", endings=(".csv",))
    html: Path | None = option(
        "a page of the results with their pictures, which opens offline", endings=(".html",))
    checkpoint: int | None = option(
        "the step of a kept checkpoint of `run` (default: its last)")
    device: str = option("auto, cpu, cuda or mps", "auto", group=MACHINE)


@dataclass(frozen=True, kw_only=True)
class BrowseOptions(DataOptions, ImportOptions):
    """A page over all images: a map with pictures, neighbors, search by an image file, filters, and
    tags and labels that are written to a table. Served on this machine alone, or one HTML file."""

    run: Path = argument("a run's folder, or an exported encoder's", names=NETWORK)
    data: Any = argument(
        "the images (default: those of the run)", optional=True, names=VECTORS)
    out: Path | None = option(
        "one HTML file of up to 10,000 images, which opens offline, in place of a server",
        endings=(".html",))
    tags: Path | None = option(
        "the .csv or .parquet file of tags and labels (default: RUN/tags/NAME.csv)",
        endings=(".csv", ".parquet"))
    near_copies: bool = option(
        "look for near copies too, as coview duplicates does, and keep their groups (default: "
        "copies are images of equal pixels)", False)
    port: int = option("of the server at 127.0.0.1 (default: a free one)", 0, group=MACHINE)
    open: bool = option("open the page in the browser", False, group=OUTPUT)
    layer: str = option("the vectors: h, the encoder's output, or z, the head's", "h")
    checkpoint: int | None = option(
        "the step of a kept checkpoint of `run` (default: its last)")
    device: str = option("auto, cpu, cuda or mps", "auto", group=MACHINE)


@dataclass(frozen=True, kw_only=True)
class VectorsOptions(DataOptions, ImportOptions):
    """What a command takes that works on the vectors of images."""

    run: Path = argument("a run's folder, or an exported encoder's", names=NETWORK)
    data: Any = argument(
        "the images, or their table of coview embed (default: those of the run)", optional=True,
        names=VECTORS)
    layer: str = option("the vectors: h, the encoder's output, or z, the head's", "h")
    checkpoint: int | None = option(
        "the step of a kept checkpoint of `run` (default: its last)")
    device: str = option("auto, cpu, cuda or mps", "auto", group=MACHINE)


@dataclass(frozen=True, kw_only=True)
class MapOptions(VectorsOptions):
    """Where each image lies among the others: coordinates in the plane, clusters, outliers. They
    are columns of the table of coview embed."""

    out: Path | None = option(
        "a table of its own, .parquet (default: the columns are added to that of coview embed)",
        endings=(".parquet",), extends=("data",))
    clusters: str | None = option(
        "numbers of clusters separated by commas, as 10,50 (default: those of 8, 32 and 128 that "
        "leave 20 images in each)", numbers=True)
    landmarks: int | None = option(
        "images that t-SNE maps themselves; the others are placed beside the nearest of them "
        "(default: 10000, or 100000 with the extra map)", least=4)
    seed: int = option("of the coordinates and the clusters", 0)


@dataclass(frozen=True, kw_only=True)
class SelectOptions(VectorsOptions):
    """Which images to label next: a table with their order, path, and the reason in words."""

    number: int | None = option("how many images to choose", required=True, least=1)
    labeled: Any = option(
        "images that are labeled already, or a table (.csv, .tsv, .parquet) of their names or "
        "paths; they count as chosen; may be repeated", (), several=True, names=READ)
    strategy: str = option(
        "coverage, typical, diverse, k-center or random", "coverage",
        choices=("coverage", "typical", "diverse", "k-center", "random"))
    out: Path | None = option("the table, .csv or .parquet (default: RUN/selections/NAME.csv; "
        "where it is there already NAME-2.csv and so on)", endings=(".csv", ".parquet"))
    copy_to: Path | None = option(
        "a new folder for copies of the chosen files, numbered in their order")
    seed: int = option("of clusters and of chance", 0)


@dataclass(frozen=True, kw_only=True)
class PredictOptions(DataOptions, ImportOptions):
    """Classify images: a Parquet or CSV file with the columns name, class and probability."""

    run: Path = argument(
        "the folder of a fine-tuned run, or an exported classifier's", names=NETWORK)
    data: Any = argument("the images", names=IMAGES)
    out: Path | None = option(
        "the file, .parquet or .csv (default: RUN/predictions/NAME.parquet)",
        endings=(".parquet", ".csv"))
    checkpoint: int | None = option(
        "the step of a kept checkpoint of `run` (default: its last)")
    device: str = option("auto, cpu, cuda or mps", "auto", group=MACHINE)


@dataclass(frozen=True, kw_only=True)
class ViewsOptions(DataOptions, ImportOptions):
    """Draw a contact sheet: images, the views made of them, and where the two crops overlap."""

    data: Any = argument("the images", names=IMAGES)
    out: Path = option("the PNG to write", Path("views.png"), endings=(".png",))
    recipe: Any = option(
        "whose views: a method, a recipe by name, a file or a run that holds one", "simclr",
        group=LEARNED)
    size: int | None = option("side of the views in pixels", group=LEARNED)
    jitter_strength: float | None = option("of the color jitter, SimCLR's s", group=LEARNED)
    local_crops: int | None = option("add this number of small crops (multi-crop)", group=LEARNED)
    affinity: str | None = option(
        "of local crops, as LoGo has them: learned, cosine or none", group=LEARNED)
    images: int = option("how many", 8)
    seed: int = option("which images and which views", 0)


@dataclass(frozen=True, kw_only=True)
class DoctorOptions(DataOptions):
    """Say whether images are fit for training, or whether a run has learned anything; each finding
    with what to do about it."""

    subject: Any = argument("a run's folder, or images as for pretrain")


@dataclass(frozen=True, kw_only=True)
class DuplicatesOptions(DataOptions, ImportOptions):
    """Find copies: identical pixels, and re-encoded, resized, cropped, flipped, brightened or
    marked images. Pairs with contradicting labels come first, then those of train and test."""

    data: Any = argument("the images", names=IMAGES)
    test: Any = option("other images: copies of `data` among them are leaks", names=READ)
    with_: Path | None = option(
        "a run's folder or an exported encoder's, whose nearest neighbors are compared as well",
        names=NETWORK)
    out: Path | None = option(
        "a table, .csv or .parquet, with a page of the pictures beside it, or the page alone, "
        ".html (default of the command: duplicates/NAME.csv of the data; where it is there already "
        "NAME-2.csv and so on)", endings=(".csv", ".parquet", ".html"))
    similarity: float = option(
        "the least similarity of a copy: 1 is the same pixels; lower finds more and errs more",
        0.75)
    device: str = option("auto, cpu, cuda or mps", "auto", group=MACHINE)


@dataclass(frozen=True, kw_only=True)
class ExportOptions(ImportOptions):
    """Write the encoder for another library; the file is loaded there and compared."""

    run: Path = argument("a run's folder, or an exported encoder's", names=NETWORK)
    to: str = option("torchvision, timm, onnx, detectron2 or safetensors", "safetensors")
    out: Path | None = option("the file (default: RUN/exports/FORMAT.safetensors, .onnx or .pth)")
    checkpoint: int | None = option(
        "the step of a kept checkpoint of `run` (default: its last)")


@dataclass(frozen=True, kw_only=True)
class PushOptions(ImportOptions):
    """Put an exported encoder on the Hugging Face Hub, with a model card that holds the results of
    evaluations. Needs huggingface_hub and a login there; the only verb that sends anything."""

    run: Path = argument("a run's folder, or an exported encoder's", names=NETWORK)
    repository: str = argument("where, as me/photos; it is made where there is none")
    public: bool = option("for everybody to see, where the repository is new", False)
    license: str | None = option(
        "the Hub's name of a license for the card, as apache-2.0; other: one of your own")
    results: Path | None = option(
        "a folder of evaluation results for the card (default: the run's evaluation/)")
    subject: str | None = option("whose results, of several in that folder")
    dry_run: bool = option("send nothing; say what would be sent", False)
    checkpoint: int | None = option(
        "the step of a kept checkpoint of `run` (default: its last)")


@dataclass(frozen=True, kw_only=True)
class ImportCheckpointOptions:
    """Make an exported encoder of another program's checkpoint, with its projection head and its
    classifier where it has them. Its names show whose it is; no code of the file is executed."""

    checkpoint: Path = argument(
        "a torch or safetensors file of torchvision, timm, MoCo, SimSiam, SupContrast, solo-learn, "
        "lightly, lightly-train, VISSL or a BYOL in PyTorch; or a folder or .index file of the "
        "official SimCLR's TensorFlow checkpoints")
    out: Path | None = option("the folder (default: encoders/NAME of the checkpoint)")
    kind: str | None = option(
        "whose it is, where the names do not say it: torchvision, timm, moco, moco-v3, simsiam, "
        "supcontrast, solo-learn, lightly, lightly-train, vissl, byol, byol-pytorch, "
        "pytorch-byol, simclr")
    encoder: str | None = option(
        "the network, where names and shapes do not say it: timm:NAME, torchvision:NAME, "
        "resnet18-padded")
    size: int | None = option("side of the images that it was trained on, in pixels")
    mean: str | None = option(
        "of the images that it was trained on, as 0.485,0.456,0.406; none: they stay in [0, 1]")
    std: str | None = option("the same of their standard deviation")
    sha256: str | None = option("refuse the file unless its SHA-256 begins so")


@dataclass(frozen=True, kw_only=True)
class ReportOptions:
    """Write a run's report.html again from its files."""

    run: Path = argument("the run's folder", names=RUN)


@dataclass(frozen=True, kw_only=True)
class DemoOptions:
    """A complete first run on built-in images: learn, judge, report. About 3 minutes on 2 cores."""

    out: Path = option("the run's folder", Path("runs/demo"))
    seed: int = option("of everything", 0)


@dataclass(frozen=True, kw_only=True)
class CacheOptions:
    """List the decoded images and the features of evaluations on disk, which later commands on the
    same data use, or delete them."""

    clear: bool = option("delete them", False)
    cache: Path | None = option("the folder (default: $COVIEW_CACHE or ~/.cache/coview)")


@dataclass(frozen=True, kw_only=True)
class RecipesOptions(ImportOptions):
    """List the recipes, those of a method, or print one to its last number."""

    name: str | None = argument("one recipe, or a method", optional=True)

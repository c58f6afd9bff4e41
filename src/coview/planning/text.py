"""The sentences of a plan: what is trained, on how many processes, for how long."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from coview.core.machine import is_busy
from coview.core.text import byte_size, duration, plural
from coview.dense import Detector, Segmenter
from coview.methods import Critic, FixedWeight, Method
from coview.methods.batch_norm import ghost_groups
from coview.methods.learner import NetworkTask
from coview.methods.passes import count_parts
from coview.options import TrainingOptions
from coview.planning.defaults import MIN_STEPS, quarter, queue_for
from coview.planning.trial import Speed
from coview.recipes import DenseRecipe, Recipe
from coview.training.checkpoints import KEEP
from coview.training.precision import Precision, computes_in_bf16

LITTLE_IMAGES, LITTLE_STEPS = 2000, 1000


def about_method(recipe: Recipe) -> str:
    """The method in a sentence: its views, its objective and what else it compares."""
    if isinstance(recipe, DenseRecipe):
        return _about_dense(recipe)
    method = recipe.method
    views = " and ".join(
        f"{count} of {size} px"
        for size, count in Counter(v.size for v in method.views.views).items()
    )
    return (
        f"{method.name} (recipe {recipe.name}): views {views}, {method.objective.in_words()}"
        f"{_repulsion(method)}."
    )


def _about_dense(recipe: DenseRecipe) -> str:
    method = recipe.method
    low, high = (round(method.view.size * factor) for factor in method.scale)
    sizes = f"{high}" if low == high else f"{low} to {high}"
    what = "squares of" if isinstance(method, Segmenter) else "images with a short side of"
    if isinstance(method, Segmenter):
        sizes = str(method.view.size)
    norm = (
        "the encoder's BatchNorm statistics are frozen"
        if method.batch_norm == "frozen"
        else "BatchNorm is trained, its statistics synchronized"
    )
    masks = ", boxes and outlines" if isinstance(method, Detector) and method.masks else ""
    return f"{method.name} (recipe {recipe.name}): {what} {sizes} px{masks}; {norm}."


def _repulsion(method: Method) -> str:
    if method.repulsion is None:
        return ""
    balance = method.repulsion.balance
    weight = (
        f"weight {balance.value:g}"
        if isinstance(balance, FixedWeight)
        else f"gradient ratio {balance.limit:g}"
    )
    word = "learned" if isinstance(method.repulsion.affinity, Critic) else "cosine"
    return f", local views repel each other by their {word} affinity ({weight})"


def about_processes(recipe: Recipe, world: int) -> Iterator[str]:
    """What several processes compute of what one would."""
    if world == 1:
        return
    method = recipe.method
    own = method.batch_norm == "ghost" or not method.synchronized
    norm = (
        "BatchNorm takes its statistics within each process, so that they depend on their number"
        if own and method.batch_norm != "frozen"
        else "so are BatchNorm's statistics"
    )
    yield (
        f"On {world} processes, about {recipe.batch_size / world:g} images of a batch on each: "
        f"loss and gradient are those of the whole batch; {norm}."
    )


def about_groups(recipe: Recipe, world: int) -> Iterator[str]:
    """That a batch is a single ghost batch, so that keys share statistics with their queries."""
    ghost, images = recipe.method.ghost_batch_size, recipe.batch_size
    parts = count_parts((images,), recipe.passes.micro_batch)
    if ghost is None or world > 1 or parts > 1 or ghost_groups(images, ghost) > 1:
        return
    yield (
        f"The batch of {images} is one group of BatchNorm: queries and keys share statistics, by "
        "which a network can tell pairs without learning what images show (MoCo, section 3.3); "
        f"`set` method.ghost_batch_size={quarter(images)} makes several."
    )


def about_options(base: Recipe, made: Recipe, options: TrainingOptions) -> Iterator[str]:
    """What options have changed of the recipe ``base`` besides what they name.

    ``made``: ``base`` with the options.
    """
    before, after = base.schedule.warmup_epochs, made.schedule.warmup_epochs
    is_cut = options.warmup_epochs is None and after == made.epochs / 10 < before
    if options.epochs is not None and is_cut:
        yield (
            f"`epochs` {made.epochs:g} shortens the warm-up of {plural(before, 'epoch')} to "
            f"{after:g}, a tenth of the run; `warmup_epochs` sets it."
        )
    old, new = base.optimizer, made.optimizer
    is_left = options.weight_decay is None and new.weight_decay == 0 != old.weight_decay
    if old.name != new.name and is_left:
        yield (
            f"`optimizer` {new.name} begins without weight decay, as the {old.weight_decay:g} of "
            f"{old.name} does not carry over; `weight_decay` sets it."
        )


def about_defaults(recipe: Recipe, images: int) -> Iterator[str]:
    """The queue and the ghost batch that a default recipe has for so many images."""
    memory, batch = recipe.method.memory, recipe.batch_size
    if memory is not None and memory.length == queue_for(batch, images):
        yield about_queue(recipe)
    if recipe.method.ghost_batch_size == quarter(batch):
        yield (
            f"BatchNorm takes its statistics of groups of {quarter(batch)} images, so that a batch "
            f"of {batch} has several; `set` method.ghost_batch_size=... sets it."
        )


def about_queue(recipe: Recipe, *, before: Recipe | None = None) -> str:
    """Why the queue of ``recipe`` is so short; ``before``: the recipe by name, with its own queue.

    >>> from coview.planning.defaults import with_fitting_queue
    >>> from coview.recipes import recipe
    >>> paper = recipe("moco-imagenet")
    >>> print(about_queue(with_fitting_queue(paper, 10_000), before=paper).split(":")[0])
    The queue has 1,000 keys in place of the recipe's 65,536, about a tenth of the images
    """
    memory = recipe.method.memory
    assert memory is not None
    instead = ""
    if before is not None and before.method.memory is not None:
        instead = f" in place of the recipe's {before.method.memory.length:,}"
    tenth = memory.length > 2 * recipe.batch_size
    share = "about a tenth of the images" if tenth else "two batches"
    return (
        f"The queue has {memory.length:,} keys{instead}, {share}: a longer one would hold keys of "
        "earlier epochs; `set` method.memory.length=... sets it."
    )


UNEVEN = 4.0
"""Fast steps by slow ones, from where on they show other programs; alone on a machine they differ
by a half. The load of the system tells of other programs a minute late."""


def about_the_run(recipe: Recipe, images: int, views: float, speed: Speed) -> Iterator[str]:
    """Batch, epochs, steps and the estimate for so many ``views``."""
    yield (
        f"Batch {recipe.batch_size}, {plural(float(recipe.epochs), 'epoch')} of {images:,} images: "
        f"{recipe.total_steps(images):,} steps."
    )
    shortest, longest = duration(views / speed.high), duration(views / speed.low)
    between = "" if shortest == longest else f" ({shortest} to {longest})"
    yield (
        f"About {duration(views / speed.median)} of training{between} at the "
        f"{speed.median:,.0f} views/s measured here."
    )
    if is_busy() or speed.high > UNEVEN * speed.low:
        yield "Other programs use the cores of this machine now: without them it takes less time."


def about_checkpoints(learner: NetworkTask, recipe: Recipe, keep_every: int | None) -> str:
    """The disk that the checkpoints take: of the last two, and of every so many epochs.

    >>> from coview.recipes import build, change, recipe
    >>> small = change(recipe("simclr-cpu"), encoder="resnet10/8-medium", epochs=100)
    >>> about_checkpoints(build(small), small, keep_every=20)
    'A checkpoint takes 1 MiB; up to 7 are kept (`keep_every` 20), 9 MiB.'
    """
    trained = [parameter for parameter in learner.parameters() if parameter.requires_grad]
    size = sum(tensor.nbytes for tensor in learner.state_dict().values())
    size += recipe.optimizer.moments * sum(parameter.nbytes for parameter in trained)
    count = KEEP + (0 if keep_every is None else int(recipe.epochs // keep_every))
    why = "the last ones" if keep_every is None else f"`keep_every` {keep_every}"
    return (
        f"A checkpoint takes {byte_size(size)}; up to {count} are kept ({why}), "
        f"{byte_size(count * size)}."
    )


def about_precision(recipe: Recipe, precision: Precision) -> Iterator[str]:
    """Where "auto" is float32 although the device computes in bf16."""
    on_cpu = precision.device.type == "cpu" and recipe.precision == "auto"
    if on_cpu and computes_in_bf16(precision.device) and precision.format == "fp32":
        yield (
            "In float32: a view is so small that a strided convolution of the network sees a "
            "single pixel, which a CPU cannot train in bf16."
        )


def about_scratch(recipe: Recipe, images: int) -> Iterator[str]:
    """What to expect of a run without first weights that is short of images or steps."""
    steps = recipe.total_steps(images)
    if steps < MIN_STEPS:
        yield (
            f"{plural(steps, 'step')} are too few for a verdict, which needs {MIN_STEPS}: give "
            "more time (`epochs` or `budget`) or smaller views (`size`)."
        )
    if images < LITTLE_IMAGES or steps < LITTLE_STEPS:
        yield (
            "This is little for training from scratch: expect a modest encoder, and compare it "
            "with existing weights (`weights`)."
        )

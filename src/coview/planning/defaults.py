"""What suits the data and the device where the user names only a method."""

from __future__ import annotations

from dataclasses import replace

from coview.core.errors import UnknownName
from coview.core.values import set_fields
from coview.encoders import EncoderSpec
from coview.methods import METHODS, get_method
from coview.methods.batch_norm import ghost_groups
from coview.recipes.catalogue import RECIPES, recipe
from coview.recipes.changes import change
from coview.recipes.recipe import Recipe

SMALL_SIDE = 40  # pixels; up to here images are trained at their own size
CPU_SIDES = (96, 64, 48)
CPU_LARGE_ENCODER = "resnet18/4"  # at 96 px 680 views/s on two cores without bf16
LADDERS: dict[tuple[str, str], tuple[tuple[str, int], ...]] = {
    ("cpu", "small"): (
        ("resnet18-small", 32), ("resnet18/2-medium", 32), ("resnet10/2-medium", 32),
        ("resnet18/4-medium", 32), ("resnet10/4-medium", 32),
    ),
    ("cpu", "large"): (
        ("resnet18", 128), ("resnet18/2", 96), ("resnet18/4", 96), ("resnet18/4", 64),
    ),
    ("cuda", "small"): (("resnet18-small", 32),),
    ("cuda", "large"): (("resnet50", 224), ("resnet18", 128)),
}  # fmt: skip
"""(encoder, size) for small images and for larger ones, from the most to the least demanding."""
MIN_STEPS_PER_EPOCH = 4
MIN_STEPS = 200
"""Of a run that can be judged: a usual warm-up takes about as long."""


def default_recipe(method: str, *, side: int, images: int, device: str) -> Recipe:
    """The recipe for ``images`` images whose shorter side is about ``side`` pixels.

    ``device`` is "cpu", "cuda" or "mps", which is treated as a CPU. A method without recipes of its
    own is trained with SimCLR's network and optimizer. Raises UnknownName for a method that is not
    registered.

    >>> default_recipe("moco", side=32, images=50_000, device="cpu").name
    'moco-auto'
    """
    base = unfitted_recipe(method, side=side, images=images, device=device)
    return with_several_groups(with_fitting_queue(base, images))


def unfitted_recipe(method: str, *, side: int, images: int, device: str) -> Recipe:
    """:func:`default_recipe` before its queue and its ghost batches fit the batch."""
    if method not in METHODS:
        raise UnknownName("method", method, METHODS)
    if device != "cuda":
        size = 32 if side <= SMALL_SIDE else max(s for s in CPU_SIDES if s <= max(side, 48))
        large = size > SMALL_SIDE
        photos = large and method == "simclr"
        base = change(_recipe_of(method, "photos-cpu" if photos else "cpu"), size=size)
        if large:
            base = change(_with_views(base, method, size), encoder=CPU_LARGE_ENCODER)
        # About two million views: what a small network needs and a CPU can do.
        base = replace(base, epochs=max(8.0, min(200.0, round(1_000_000 / max(images, 1)))))
    elif side <= SMALL_SIDE:
        base = change(_recipe_of(method, "cifar"), epochs=200)
    else:
        base = _recipe_of(method, "photos" if method == "simclr" else "imagenet")
        # A ResNet-50, also where the paper's recipe has a larger network.
        base = replace(change(base, epochs=200), batch_size=256, encoder=EncoderSpec(depth=50))
    return replace(base, name=f"{method}-auto", batch_size=batch_for(images, base))


def default_finetuning(device: str) -> Recipe:
    """The recipe of fine-tuning for a device, "cpu", "cuda" or "mps"."""
    return recipe("finetune-v2-imagenet" if device == "cuda" else "finetune-cpu")


def default_distillation(device: str) -> Recipe:
    """The recipe of distillation for a device, "cpu", "cuda" or "mps"."""
    return recipe("distill-imagenet" if device == "cuda" else "distill-cpu")


def _recipe_of(method: str, suffix: str) -> Recipe:
    """The method's recipe with this suffix, or SimCLR's with the method in its place."""
    if f"{method}-{suffix}" in RECIPES:
        return recipe(f"{method}-{suffix}")
    base = recipe(f"simclr-{suffix}")
    return replace(base, name=f"{method}-{suffix}", method=get_method(method)(base.image_size))


def ladder(device: str, side: int) -> tuple[tuple[str, int], ...]:
    """The (encoder, size) from which a budget chooses, for images of about ``side`` pixels."""
    steps = LADDERS[
        "cuda" if device == "cuda" else "cpu", "small" if side <= SMALL_SIDE else "large"
    ]
    return tuple((encoder, min(size, max(side, 32))) for encoder, size in steps)


def batch_for(images: int, recipe: Recipe) -> int:
    """The recipe's batch, or the power of two that gives at least four steps an epoch."""
    batch = recipe.batch_size
    while batch > 8 and images // batch < MIN_STEPS_PER_EPOCH:
        batch //= 2
    return batch


def with_fitting_queue(recipe: Recipe, images: int) -> Recipe:
    """``recipe`` with a queue of about a tenth of the images and of two batches at least.

    One that is shorter stays: it holds about 5 % of ImageNet in MoCo. Longer, its keys are of
    epochs ago, and many are of the query's own image.

    >>> with_fitting_queue(recipe("moco-cpu"), images=5000).method.memory
    Queue(length=500)
    """
    memory = recipe.method.memory
    if memory is None:
        return recipe
    length = min(memory.length, queue_for(recipe.batch_size, images))
    return set_fields(recipe, {"method.memory.length": length})


def queue_for(batch_size: int, images: int) -> int:
    """The keys to which a queue is shortened for so many images."""
    return max(2 * batch_size, images // 10)


def with_several_groups(recipe: Recipe) -> Recipe:
    """``recipe`` with ghost batches of a quarter of the batch, where the batch would be one."""
    ghost = recipe.method.ghost_batch_size
    if ghost is None or ghost_groups(recipe.batch_size, ghost) > 1:
        return recipe
    return set_fields(recipe, {"method.ghost_batch_size": quarter(recipe.batch_size)})


def quarter(batch_size: int) -> int:
    """The ghost batch that makes four groups of a batch, or fewer of at least 4 images."""
    return max(4, batch_size // 4)


def _with_views(base: Recipe, method: str, size: int) -> Recipe:
    """``base`` with the method's own views of larger images, blur and full colors included."""
    views = get_method(method)(size).views
    return replace(base, method=replace(base.method, views=views))

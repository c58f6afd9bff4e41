"""Another program's checkpoint as an exported encoder."""

from __future__ import annotations

from pathlib import Path

from coview.core.errors import InvalidValue
from coview.core.options import takes
from coview.core.progress import say
from coview.encoders import parse_encoder
from coview.importing import import_network
from coview.importing.wishes import Wishes, read_normalization
from coview.options import ImportCheckpointOptions
from coview.runs.start import new_folder

MAX_SIDE = 16_384


@takes(ImportCheckpointOptions)
def import_checkpoint(options: ImportCheckpointOptions) -> Path:
    """Make an exported folder of another program's ``checkpoint``; returns the folder.

    Whose checkpoint it is shows in the names of its tensors, and is said; ``kind``, ``encoder``,
    ``size``, ``mean`` and ``std`` say what the file does not. Every tensor is either taken or said
    to be left out. No code of the file is executed. The folder does for :func:`coview.load`, which
    gives logits where there is a classifier, and wherever a run or an encoder does. Raises
    InvalidValue for a file that is not understood, UnknownName, and RunError for a folder that
    exists.

    >>> import coview
    >>> from torchvision.models import resnet18
    >>> import torch
    >>> torch.save(resnet18(num_classes=5).state_dict(), "resnet18.pth")
    >>> coview.import_checkpoint("resnet18.pth").as_posix()
    'encoders/resnet18'
    >>> coview.load("encoders/resnet18")(torch.rand(1, 3, 64, 64)).shape
    torch.Size([1, 5])
    """
    size = options.size
    if size is not None and not 1 <= size <= MAX_SIDE:
        raise InvalidValue(f"`size` is {size}; expected pixels, from 1 to {MAX_SIDE}.")
    wishes = Wishes(
        kind=options.kind,
        encoder=None if options.encoder is None else parse_encoder(options.encoder),
        size=size,
        normalization=read_normalization(options.mean, options.std),
        sha256=options.sha256,
    )
    path = Path(options.checkpoint)
    folder = new_folder(options.out or Path("encoders") / name_of_checkpoint(path))
    imported = import_network(path, folder, wishes)
    for sentence in imported.sentences:
        say(sentence)
    return folder


def name_of_checkpoint(path: Path) -> str:
    """The name of the file without the endings of checkpoints.

    >>> name_of_checkpoint(Path("moco_v2_800ep_pretrain.pth.tar"))
    'moco_v2_800ep_pretrain'
    """
    name = path.name
    for ending in (".tar", ".pth", ".pt", ".ckpt", ".safetensors", ".torch", ".bin", ".index"):
        name = name.removesuffix(ending)
    return name or path.name

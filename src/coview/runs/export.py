"""The encoder as a file of another library."""

from __future__ import annotations

from pathlib import Path

from coview.core.options import takes
from coview.core.places import output_file
from coview.core.progress import say
from coview.core.run_folder import RunFolder
from coview.core.user_code import import_files
from coview.encoders import export_to, load_encoder
from coview.encoders.exchange.detectron2 import detectron2_config
from coview.encoders.exchange.readme import library_code
from coview.encoders.exchange.weights import read_config
from coview.options import ExportOptions
from coview.runs.load import at_step, exported, say_verdict


@takes(ExportOptions)
def export(options: ExportOptions) -> Path:
    """Write the encoder for torchvision, timm, ONNX, detectron2 or as safetensors, and compare it.

    >>> import coview
    >>> coview.export("runs/scenes", out="scenes.safetensors").name
    'scenes.safetensors'
    """
    import_files(options.import_)
    say_verdict(options.run)
    ending = {"onnx": "onnx", "detectron2": "pth"}.get(options.to, "safetensors")
    out = None if options.out is None else output_file(options.out, (f".{ending}",))
    name = at_step(options.to, options.checkpoint)
    default = RunFolder(options.run).exports_path / f"{name}.{ending}"
    with exported(options.run, options.checkpoint) as folder:
        path = export_to(folder, options.to, out or default)
        if options.to in ("torchvision", "timm"):
            config, encoder = read_config(folder), load_encoder(folder).encoder
            say(
                "Python that loads it, for images normalized as its header says:",
                detail=True,
            )
            say(library_code(encoder, options.to, path.absolute(), config), detail=True)
        if options.to == "detectron2":
            encoder = load_encoder(folder).encoder
            say("Lines of a detectron2 configuration that loads it:", detail=True)
            say(detectron2_config(encoder, path.absolute(), read_config(folder)), detail=True)
        return path

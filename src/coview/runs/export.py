"""The encoder as a file of another library."""

from __future__ import annotations

from pathlib import Path

from coview.core.options import takes
from coview.core.run_folder import RunFolder
from coview.encoders import export_to
from coview.options import ExportOptions


@takes(ExportOptions)
def export(options: ExportOptions) -> Path:
    """Write the encoder for torchvision, timm, ONNX or as safetensors; read back and compared.

    >>> import coview
    >>> coview.export("runs/scenes", out="scenes.safetensors").name
    'scenes.safetensors'
    """
    ending = "onnx" if options.to == "onnx" else "safetensors"
    default = RunFolder(Path(options.run)).exports_path / f"{options.to}.{ending}"
    return export_to(options.run, options.to, options.out or default)

"""Images -> features h: residual networks, networks of other libraries, weights, exports."""

from coview.encoders.exchange.convert import export_to
from coview.encoders.exchange.export import export_encoder
from coview.encoders.exchange.libraries import to_timm, to_torchvision
from coview.encoders.exchange.loading import InputNormalizer, load_encoder
from coview.encoders.exchange.weights import convert_checkpoint, load_weights
from coview.encoders.own import remember_module
from coview.encoders.residual import Encoder, ResNet
from coview.encoders.spec import EncoderSpec, parse_encoder, resnet

__all__ = [
    "Encoder", "EncoderSpec", "InputNormalizer", "ResNet", "convert_checkpoint", "export_encoder",
    "export_to", "load_encoder", "load_weights", "parse_encoder", "remember_module", "resnet",
    "to_timm", "to_torchvision",
]  # fmt: skip

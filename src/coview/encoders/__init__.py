"""Images -> features h: residual networks of any depth and width, adapters, weights, exports."""

from coview.encoders.conversion import export_to
from coview.encoders.export import export_encoder
from coview.encoders.loading import Normalised, load_encoder
from coview.encoders.names import encoder_named
from coview.encoders.residual import Encoder, ResNet
from coview.encoders.spec import EncoderSpec, resnet
from coview.encoders.targets import to_timm, to_torchvision
from coview.encoders.weights import convert_checkpoint, load_weights

__all__ = [
    "Encoder",
    "EncoderSpec",
    "Normalised",
    "ResNet",
    "convert_checkpoint",
    "encoder_named",
    "export_encoder",
    "export_to",
    "load_encoder",
    "load_weights",
    "resnet",
    "to_timm",
    "to_torchvision",
]

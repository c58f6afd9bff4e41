"""Networks as other programs build and save them, after their sources, tiny and with random norms.

Each function returns (the network, the content of its file, {layer: images -> values}). The names
of the tensors are those of the programs: moco and simsiam and moco-v3 `builder.py`, SupContrast
`networks/resnet_big.py`, solo-learn `solo/methods/base.py`.
"""

from argparse import Namespace
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional as F
from torchvision.models.resnet import BasicBlock, ResNet

SEED = 7


def shake(network):
    """Random weights and norms, so that no tensor can take the place of another unseen."""
    generator = torch.Generator().manual_seed(SEED)
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if name.endswith("num_batches_tracked"):
                tensor.fill_(9)
            elif name.endswith("running_var"):
                tensor.uniform_(0.5, 1.5, generator=generator)
            elif tensor.ndim == 1 and tensor.is_floating_point():
                tensor.add_(torch.empty_like(tensor).uniform_(-0.2, 0.2, generator=generator))
    return network.eval()


def resnet10(num_classes=16, **settings):
    """torchvision's ResNet with one block in each group, to be quick."""
    return ResNet(BasicBlock, [1, 1, 1, 1], num_classes=num_classes, **settings)


def features_of(resnet):
    """images -> what torchvision's network gives to its last layer."""

    def compute(images):
        seen = []
        hook = resnet.avgpool.register_forward_hook(lambda *call: seen.append(call[2].flatten(1)))
        resnet(images)
        hook.remove()
        return seen[0]

    return compute


def as_saved(network, entry, **more):
    """The content of a file of a DataParallel training: every name begins with module."""
    state = {f"module.{name}": value for name, value in network.state_dict().items()}
    optimizer = {"state": {0: {"momentum_buffer": torch.ones(3)}}, "param_groups": [{"lr": 0.03}]}
    return {entry: state, "epoch": 200, "optimizer": optimizer, **more}


def moco(version):
    network = nn.Module()
    network.encoder_q, network.encoder_k = resnet10(), resnet10()
    for encoder in (network.encoder_q, network.encoder_k) if version == 2 else ():
        encoder.fc = nn.Sequential(nn.Linear(512, 512), nn.ReLU(), encoder.fc)
    network.register_buffer("queue", torch.randn(16, 32))
    network.register_buffer("queue_ptr", torch.zeros(1, dtype=torch.long))
    shake(network)
    layers = {"h": features_of(network.encoder_q), "z": network.encoder_q}
    return as_saved(network, "state_dict", arch="resnet50"), layers


def mlp(widths, last_bn=True):
    layers = []
    for number, (width_in, width_out) in enumerate(pairwise(widths)):
        layers.append(nn.Linear(width_in, width_out, bias=False))
        if number < len(widths) - 2:
            layers += [nn.BatchNorm1d(width_out), nn.ReLU(inplace=True)]
        elif last_bn:
            layers.append(nn.BatchNorm1d(width_out, affine=False))
    return nn.Sequential(*layers)


def moco_v3():
    network = nn.Module()
    network.base_encoder, network.momentum_encoder = resnet10(), resnet10()
    network.base_encoder.fc = mlp([512, 64, 16])
    network.momentum_encoder.fc = mlp([512, 64, 16])
    network.predictor = mlp([16, 64, 16], last_bn=False)
    shake(network)
    layers = {"h": features_of(network.base_encoder), "z": network.base_encoder}
    return as_saved(network, "state_dict", arch="resnet50", scaler={"scale": 65536.0}), layers


def simsiam():
    network = nn.Module()
    network.encoder = resnet10(num_classes=24, zero_init_residual=True)
    fc = network.encoder.fc
    network.encoder.fc = nn.Sequential(
        nn.Linear(512, 512, bias=False), nn.BatchNorm1d(512), nn.ReLU(inplace=True),
        nn.Linear(512, 512, bias=False), nn.BatchNorm1d(512), nn.ReLU(inplace=True),
        fc, nn.BatchNorm1d(24, affine=False),
    )  # fmt: skip
    network.predictor = nn.Sequential(
        nn.Linear(24, 8, bias=False), nn.BatchNorm1d(8), nn.ReLU(inplace=True), nn.Linear(8, 24)
    )
    shake(network)
    layers = {"h": features_of(network.encoder), "z": network.encoder}
    return as_saved(network, "state_dict", arch="resnet50"), layers


class ShortcutBlock(nn.Module):
    """SupContrast's block: the shortcut is called so, and is empty where it is the identity."""

    def __init__(self, channels_in, channels, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut = nn.Sequential()
        if stride != 1 or channels_in != channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels_in, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, x):
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + self.shortcut(x))


class SmallResNet(nn.Module):
    """SupContrast's ResNet for 32-pixel images: 3x3 stem, no pooling, no last layer."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        for number, (width_in, width) in enumerate([(64, 64), (64, 128), (128, 256), (256, 512)]):
            block = ShortcutBlock(width_in, width, 1 if number == 0 else 2)
            setattr(self, f"layer{number + 1}", nn.Sequential(block))

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        for number in range(1, 5):
            x = getattr(self, f"layer{number}")(x)
        return x.mean((2, 3))


def supcontrast(head="mlp", dataset="cifar10"):
    """A file of main_supcon.py: DataParallel wraps the encoder alone; opt is a Namespace."""
    network = nn.Module()
    network.encoder = SmallResNet()
    network.head = nn.Linear(512, 16)
    if head == "mlp":
        network.head = nn.Sequential(nn.Linear(512, 512), nn.ReLU(inplace=True), network.head)
    shake(network)
    state = {
        name.replace("encoder.", "encoder.module."): value
        for name, value in network.state_dict().items()
    }
    content = {
        "opt": Namespace(dataset=dataset, model="resnet18", temp=0.1, lr_decay_epochs=[700, 800]),
        "model": state, "optimizer": {"state": {}, "param_groups": []}, "epoch": 1000,
    }  # fmt: skip
    layers = {"h": network.encoder, "z": lambda images: network.head(network.encoder(images))}
    return content, layers

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


def solo_learn():
    """A file of Lightning's ModelCheckpoint: CIFAR stem with two pixels of padding."""
    network = nn.Module()
    network.backbone, network.momentum_backbone = resnet10(), resnet10()
    for backbone in (network.backbone, network.momentum_backbone):
        backbone.fc, backbone.maxpool = nn.Identity(), nn.Identity()
        backbone.conv1 = nn.Conv2d(3, 64, 3, padding=2, bias=False)
    network.classifier = nn.Linear(512, 10)
    network.projector = nn.Sequential(
        nn.Linear(512, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 8)
    )
    network.momentum_projector = nn.Linear(512, 32)
    network.predictor = nn.Linear(8, 8)
    shake(network)
    content = {"epoch": 999, "global_step": 1, "pytorch-lightning_version": "1.9",
               "state_dict": network.state_dict(), "loops": {}, "optimizer_states": []}  # fmt: skip
    layers = {"h": network.backbone, "z": lambda x: network.projector(network.backbone(x))}
    return content, layers, lambda images: network.classifier(network.backbone(images))


def vissl():
    """A file of VISSL: trunk and heads of classy_state_dict, and a configuration beside."""
    trunk, head = resnet10(), nn.Sequential(nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 16))
    shake(trunk)
    shake(head)
    names = {name: value for name, value in trunk.state_dict().items() if not name.startswith("fc")}
    model = {
        "trunk": {f"_feature_blocks.{name}": value for name, value in names.items()},
        "heads": {f"0.clf.{name}": value for name, value in head.state_dict().items()},
    }
    content = {
        "phase": 99, "iteration": 5, "train_phase_idx": 99, "type": "phase_end",
        "classy_state_dict": {"base_model": {"model": model, "meta": {}}, "optimizer": {}},
        "config": Namespace(MODEL={"TRUNK": {"NAME": "resnet"}}),
    }  # fmt: skip
    h = features_of(trunk)
    return content, {"h": h, "z": lambda images: head(h(images))}


class SamePadded(nn.Module):
    """ResNet-10 whose strided layers pad as TensorFlow's "SAME", as the official BYOL's do.

    The padding is written out: at even sizes one row after the end for 3x3 with stride 2, two
    before and three after for 7x7 with stride 2.
    """

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x):
        net = self.network
        x = F.conv2d(F.pad(x, (2, 3, 2, 3)), net.conv1.weight, stride=2)
        x = F.max_pool2d(F.pad(F.relu(net.bn1(x)), (0, 1, 0, 1)), 3, 2)
        for group in (net.layer1, net.layer2, net.layer3, net.layer4):
            for block in group:
                strided = block.conv1.stride == (2, 2)
                padded = F.pad(x, (0, 1, 0, 1)) if strided else F.pad(x, (1, 1, 1, 1))
                y = F.conv2d(padded, block.conv1.weight, stride=block.conv1.stride)
                y = block.bn2(block.conv2(F.relu(block.bn1(y))))
                x = F.relu(y + (x if block.downsample is None else block.downsample(x)))
        return x.mean((2, 3))


def official_byol():
    """A conversion of DeepMind's file: torchvision's names without counters, and a classifier."""
    network = shake(resnet10())
    content = {
        name: value
        for name, value in network.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    return content, {"h": SamePadded(network)}


def mlp_byol(widths):
    return nn.Sequential(
        nn.Linear(*widths[:2]), nn.BatchNorm1d(widths[1]), nn.ReLU(), nn.Linear(*widths[1:])
    )


def byol_pytorch():
    """The state dict of byol-pytorch's learner: the network twice, the second time as online."""
    network = nn.Module()
    network.net = resnet10()
    for name in ("online_encoder", "target_encoder"):
        wrapper = nn.Module()
        wrapper.net = network.net if name == "online_encoder" else resnet10()
        wrapper.projector = mlp_byol([512, 24, 8])
        setattr(network, name, wrapper)
    network.online_predictor = mlp_byol([8, 24, 8])
    shake(network)
    h = features_of(network.net)
    return network.state_dict(), {"h": h, "z": lambda x: network.online_encoder.projector(h(x))}


def pytorch_byol():
    """A file of PyTorch-BYOL: three state dicts; the head is called projetion there."""
    network = nn.Module()
    network.encoder = nn.Sequential(*list(resnet10().children())[:-1])
    network.projetion = nn.Module()
    network.projetion.net = mlp_byol([512, 24, 8])
    shake(network)
    content = {
        "online_network_state_dict": network.state_dict(),
        "encoder_state_dict": network.encoder.state_dict(),
        "target_network_state_dict": network.state_dict(), "optimizer_state_dict": {},
    }  # fmt: skip

    def h(images):
        return network.encoder(images).flatten(1)

    return content, {"h": h, "z": lambda images: network.projetion.net(h(images))}

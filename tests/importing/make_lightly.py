"""Write tests/importing/fixtures/lightly*.zip: checkpoints of lightly and exports of lightly-train.

    pip install lightly lightly-train            # in an environment of its own
    python tests/importing/make_lightly.py

Each archive holds a file that the package has written (a Lightning checkpoint, or an export) and
expected.npz: images [n, 3, S, S] in [0, 1], normalized with ImageNet's mean and std before they
reach the network, and the network's own h and z. Weights are few different numbers, most of them 0
in large layers, so that the archives are small.
"""

import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import torch
from lightly.models import ResNetGenerator
from lightly.models.modules import heads
from torch import nn
from torchvision.models.resnet import BasicBlock, ResNet

FOLDER = Path(__file__).with_name("fixtures")
MEAN = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
STD = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)


def coarsen(network, seed):
    """Weights and norms of few different numbers; of large layers at most 2 or 4 a row are not 0."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if name.endswith("num_batches_tracked"):
                continue
            if tensor.ndim == 1:
                kind = name.endswith("running_var") or (name.endswith("weight"))
                drawn = torch.randint(-3, 4, tensor.shape, generator=generator) / 8
                tensor.copy_(1 + drawn if kind else drawn / 2)
                continue
            rows = tensor.flatten(1)
            rows.copy_(torch.randint(-8, 9, rows.shape, generator=generator) / 8)
            most = 2 if tensor.numel() > 50_000 else 4 if tensor.numel() > 5_000 else 1 << 30
            keep = min(most, rows.shape[1])
            mask = torch.zeros_like(rows)
            mask.scatter_(1, torch.rand(rows.shape, generator=generator).argsort(1)[:, :keep], 1.0)
            rows.mul_((3 / keep) ** 0.5).masked_fill_(mask == 0, 0.0)  # not -0.0
            tensor.copy_(rows.view_as(tensor))
    return network


class SimCLR(pl.LightningModule):
    """A module as in lightly's examples."""

    def __init__(self, backbone, head):
        super().__init__()
        self.save_hyperparameters({"learning_rate": 0.06})
        self.backbone, self.projection_head = backbone, head

    def forward(self, x):
        return self.projection_head(self.backbone(x).flatten(start_dim=1))

    def training_step(self, batch, index):
        return self(batch[0]).square().mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.0)


class BYOL(SimCLR):
    """With the momentum encoder and the prediction head that lightly's examples have."""

    def __init__(self, backbone, head, momentum_backbone, momentum_head):
        super().__init__(backbone, head)
        self.prediction_head = heads.BYOLPredictionHead(8, 24, 8)
        self.backbone_momentum, self.projection_head_momentum = momentum_backbone, momentum_head


def archive(name, path, size, h, z=None):
    """``path`` and the values of h and z for images of ``size`` pixels."""
    pixels = torch.randint(0, 256, (2, 3, size, size), generator=torch.Generator().manual_seed(5))
    images = (pixels / 255 - MEAN) / STD
    with torch.no_grad():
        expected = {"h": h(images).flatten(1)} | ({} if z is None else {"z": z(images)})
    target = FOLDER / f"{name}.zip"
    np.savez_compressed(
        path.with_name("expected.npz"), images=pixels.numpy().astype(np.uint8),
        **{layer: value.numpy() for layer, value in expected.items()},
    )  # fmt: skip
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, True, 9) as file:
        for each in (path, path.with_name("expected.npz")):
            file.write(each, each.name)
    print(name, target.stat().st_size, {layer: value.std() for layer, value in expected.items()})


def lightning(name, module, size, seed):
    """A checkpoint of Lightning after one step of length 0."""
    coarsen(module, seed)
    with tempfile.TemporaryDirectory() as folder:
        trainer = pl.Trainer(
            max_steps=1, accelerator="cpu", logger=False, enable_checkpointing=False,
            enable_progress_bar=False, default_root_dir=folder,
        )  # fmt: skip
        data = torch.utils.data.TensorDataset(torch.rand(4, 3, size, size))
        trainer.fit(module, torch.utils.data.DataLoader(data, batch_size=4))
        for key, tensor in module.state_dict().items():
            if "momentum" in key:
                tensor.zero_()  # not to be imported: small
        trainer.save_checkpoint(f"{folder}/epoch=0.ckpt")
        module.eval()
        archive(name, Path(folder) / "epoch=0.ckpt", size, module.backbone, module)


def resnet9():
    backbone = ResNetGenerator("resnet-9", width=0.125)
    backbone.linear = nn.Identity()
    return backbone


def imagenet_backbone():
    return nn.Sequential(*list(ResNet(BasicBlock, [1, 1, 1, 1]).children())[:-1])


def exports():
    """An export of lightly-train by its own code, of a torchvision network."""
    from lightly_train._models.torchvision.torchvision_package import TORCHVISION_PACKAGE

    network = coarsen(ResNet(BasicBlock, [1, 1, 1, 1]), seed=4).eval()
    network.fc = nn.Linear(512, 1000)  # as pretraining leaves it: never trained
    nn.init.zeros_(network.fc.weight)
    nn.init.zeros_(network.fc.bias)
    body = nn.Sequential(*list(network.children())[:-1])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "exported_last.pt"
        TORCHVISION_PACKAGE.export_model(network, path)
        archive("lightly-train", path, 64, body)


def main():
    torch.manual_seed(0)
    lightning("lightly-cifar", SimCLR(resnet9(), heads.SimCLRProjectionHead(64, 32, 8)), 32, 1)
    lightning("lightly-simsiam", SimCLR(resnet9(), heads.SimSiamProjectionHead(64, 32, 8)), 32, 2)
    backbones = imagenet_backbone(), imagenet_backbone()
    head, momentum_head = (heads.BYOLProjectionHead(512, 24, 8) for _ in range(2))
    lightning("lightly-byol", BYOL(backbones[0], head, backbones[1], momentum_head), 64, 3)
    exports()


if __name__ == "__main__":
    main()

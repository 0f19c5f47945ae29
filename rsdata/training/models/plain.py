"""Networks written out in plain torch, which need no other library: the usual ResNets, and two small ones for laptops.

Parameter names of the ResNets follow the layout that published ResNet weights use, so those can be loaded by name.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from rsdata.training.models.base import Model, Wanted


class DropPath(nn.Module):
    """Leave out a block for some patches in training, and make up for it in the others.

    Source: Huang et al., "Deep networks with stochastic depth", ECCV 2016.
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or not self.share:
            return x
        stays = torch.rand(len(x), *[1] * (x.ndim - 1), device=x.device, dtype=x.dtype) >= self.share
        return x * stays / (1 - self.share)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut: the block of ResNet-18 and ResNet-34."""

    expansion = 1  # output channels per inner channel

    def __init__(self, in_channels: int, channels: int, stride: int, drop_path: float = 0.0) -> None:
        super().__init__()
        self.conv1 = _conv(in_channels, channels, 3, stride)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = _conv(channels, channels, 3)
        self.bn2 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _shortcut(in_channels, channels * self.expansion, stride)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return self.relu(self.drop_path(y) + (x if self.downsample is None else self.downsample(x)))


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions and a shortcut: the block of ResNet-50 and deeper.

    The stride sits on the 3x3 convolution, as in the weights most people use ("v1.5"), not on the first 1x1 as in
    the paper; the number of parameters is the same.
    """

    expansion = 4

    def __init__(self, in_channels: int, channels: int, stride: int, drop_path: float = 0.0) -> None:
        super().__init__()
        self.conv1 = _conv(in_channels, channels, 1)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = _conv(channels, channels, 3, stride)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = _conv(channels, channels * self.expansion, 1)
        self.bn3 = nn.BatchNorm2d(channels * self.expansion)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _shortcut(in_channels, channels * self.expansion, stride)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return self.relu(self.drop_path(y) + (x if self.downsample is None else self.downsample(x)))


class ResNet(nn.Module):
    """Residual network with a 7x7 stem of stride 2 and a pooling of stride 2: features are 32 times coarser than the input.

    Source: He, Zhang, Ren, Sun, "Deep residual learning for image recognition", CVPR 2016, table 1.
    """

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        depths: tuple[int, ...],
        in_channels: int,
        outputs: int,
        dropout: float = 0.0,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        self.conv1 = _conv(in_channels, 64, 7, 2)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        shares = iter([drop_path * number / (sum(depths) - 1) for number in range(sum(depths))])
        self.layer1 = _layer(block, 64, 64, depths[0], 1, shares)
        self.layer2 = _layer(block, 64 * block.expansion, 128, depths[1], 2, shares)
        self.layer3 = _layer(block, 128 * block.expansion, 256, depths[2], 2, shares)
        self.layer4 = _layer(block, 256 * block.expansion, 512, depths[3], 2, shares)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(512 * block.expansion, outputs)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def features(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return x.mean(dim=(2, 3))

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.fc(self.dropout(self.features(x)))
        return logits


class SmallCnn(nn.Module):
    """Four convolutions for laptops and tests; it normalises by groups of channels, so batches of any size do."""

    def __init__(self, in_channels: int, outputs: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.layers = nn.Sequential(_normed(in_channels, 32, 2), _normed(32, 64, 2), _normed(64, 128, 2), _normed(128, 128, 1))
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(128, outputs)

    def features(self, x: Tensor) -> Tensor:
        pooled: Tensor = self.layers(x).mean(dim=(2, 3))
        return pooled

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.fc(self.dropout(self.features(x)))
        return logits


class SmallUnet(nn.Module):
    """A U-Net of three scales for laptops and tests, with normalisation by groups of channels.

    Source: Ronneberger, Fischer, Brox, "U-Net: convolutional networks for biomedical image segmentation", MICCAI 2015; with
    sides that are kept by padding, and bilinear enlargement.
    """

    def __init__(self, in_channels: int, outputs: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.down1 = nn.Sequential(_normed(in_channels, 32), _normed(32, 32))
        self.down2 = nn.Sequential(_normed(32, 64, 2), _normed(64, 64))
        self.down3 = nn.Sequential(_normed(64, 128, 2), _normed(128, 128))
        self.up2 = nn.Sequential(_normed(128 + 64, 64), _normed(64, 64))
        self.up1 = nn.Sequential(_normed(64 + 32, 32), _normed(32, 32))
        self.dropout = nn.Dropout2d(dropout)
        self.fc = nn.Conv2d(32, outputs, 1)

    def features(self, x: Tensor) -> Tensor:
        pooled: Tensor = self.down3(self.down2(self.down1(x))).mean(dim=(2, 3))
        return pooled

    def forward(self, x: Tensor) -> Tensor:
        fine = self.down1(x)
        middle = self.down2(fine)
        coarse = self.down3(middle)
        middle = self.up2(torch.cat([_enlarged(coarse, middle), middle], dim=1))
        fine = self.up1(torch.cat([_enlarged(middle, fine), fine], dim=1))
        logits: Tensor = self.fc(self.dropout(fine))
        return logits


def features(network: nn.Module, pixels: Tensor) -> Tensor:
    """What the last layer of a network for patches is shown; of one for pixels, the mean of what its coarsest scale found."""
    found: Tensor = network.features(pixels)  # type: ignore[operator]
    return found


def _resnet(block: type[BasicBlock] | type[Bottleneck], *depths: int) -> Model:
    def build(wanted: Wanted) -> nn.Module:
        return ResNet(block, depths, wanted.bands, wanted.outputs, wanted.dropout, wanted.drop_path)

    return Model(build, features)


PLAIN: dict[str, Model] = {
    "resnet18": _resnet(BasicBlock, 2, 2, 2, 2),
    "resnet50": _resnet(Bottleneck, 3, 4, 6, 3),
    "resnet101": _resnet(Bottleneck, 3, 4, 23, 3),
    "small-cnn": Model(
        lambda wanted: SmallCnn(wanted.bands, wanted.outputs, wanted.dropout), features, stem="layers.0.0.weight", drops_path=False
    ),
    "small-unet": Model(
        lambda wanted: SmallUnet(wanted.bands, wanted.outputs, wanted.dropout),
        features,
        answers="pixel",
        stem="down1.0.0.weight",
        drops_path=False,
    ),
}


def _conv(in_channels: int, out_channels: int, size: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, size, stride, padding=size // 2, bias=False)


def _shortcut(in_channels: int, out_channels: int, stride: int) -> nn.Module | None:
    """Bring the input to the shape of a block's output; nothing where it has that shape already."""
    if stride == 1 and in_channels == out_channels:
        return None
    return nn.Sequential(_conv(in_channels, out_channels, 1, stride), nn.BatchNorm2d(out_channels))


def _normed(in_channels: int, out_channels: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(_conv(in_channels, out_channels, 3, stride), nn.GroupNorm(8, out_channels), nn.ReLU(inplace=True))


def _enlarged(coarse: Tensor, fine: Tensor) -> Tensor:
    return interpolate(coarse, fine.shape[2:], mode="bilinear", align_corners=False)


def _layer(
    block: Callable[[int, int, int, float], BasicBlock | Bottleneck],
    in_channels: int,
    channels: int,
    depth: int,
    stride: int,
    shares: Iterator[float],
) -> nn.Sequential:
    blocks = [block(in_channels, channels, stride, next(shares))]
    inner = blocks[0].expansion * channels
    return nn.Sequential(*blocks, *(block(inner, channels, 1, next(shares)) for _ in range(depth - 1)))

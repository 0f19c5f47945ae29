"""The networks a baseline can be, by short name.

Each is written out in plain torch, so any number of input bands is an argument and no download is needed.
Parameter names follow the layout that published ResNet weights use, so those can be loaded by name.
"""

from collections.abc import Callable
from typing import Protocol

from torch import Tensor, nn

from rsdata.errors import TrainingError


class ModelBuilder(Protocol):
    """Makes an untrained network.

    The network takes (patch, band, y, x) float32 and returns (patch, class) float32 logits. Its weights are drawn
    from torch's global random numbers, so a seed set before the call fixes them.
    """

    def __call__(self, in_channels: int, classes: int) -> nn.Module: ...


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut: the block of ResNet-18 and ResNet-34."""

    expansion = 1  # output channels per inner channel

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = _conv(in_channels, channels, 3, stride)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = _conv(channels, channels, 3)
        self.bn2 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _shortcut(in_channels, channels * self.expansion, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return self.relu(y + (x if self.downsample is None else self.downsample(x)))


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions and a shortcut: the block of ResNet-50 and deeper.

    The stride sits on the 3x3 convolution, as in the weights most people use ("v1.5"), not on the first 1x1 as in
    the paper; the number of parameters is the same.
    """

    expansion = 4

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = _conv(in_channels, channels, 1)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = _conv(channels, channels, 3, stride)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = _conv(channels, channels * self.expansion, 1)
        self.bn3 = nn.BatchNorm2d(channels * self.expansion)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _shortcut(in_channels, channels * self.expansion, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return self.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet(nn.Module):
    """Residual network with a 7x7 stem of stride 2 and a pooling of stride 2: features are 32 times coarser than the input.

    Source: He, Zhang, Ren, Sun, "Deep residual learning for image recognition", CVPR 2016, table 1.
    """

    def __init__(
        self, block: type[BasicBlock] | type[Bottleneck], depths: tuple[int, int, int, int], in_channels: int, classes: int
    ) -> None:
        super().__init__()
        self.conv1 = _conv(in_channels, 64, 7, 2)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.layer1 = _layer(block, 64, 64, depths[0], 1)
        self.layer2 = _layer(block, 64 * block.expansion, 128, depths[1], 2)
        self.layer3 = _layer(block, 128 * block.expansion, 256, depths[2], 2)
        self.layer4 = _layer(block, 256 * block.expansion, 512, depths[3], 2)
        self.fc = nn.Linear(512 * block.expansion, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        features: Tensor = x.mean(dim=(2, 3))
        logits: Tensor = self.fc(features)
        return logits


def resnet18(in_channels: int, classes: int) -> nn.Module:
    return ResNet(BasicBlock, (2, 2, 2, 2), in_channels, classes)


def resnet50(in_channels: int, classes: int) -> nn.Module:
    return ResNet(Bottleneck, (3, 4, 6, 3), in_channels, classes)


MODELS: dict[str, ModelBuilder] = {"resnet18": resnet18, "resnet50": resnet50}


def build_model(name: str, in_channels: int, classes: int) -> nn.Module:
    """Make an untrained network by its short name.

    Raises: TrainingError if no model has that name, or if there is no band or no class.
    """
    builder = MODELS.get(name)
    if builder is None:
        raise TrainingError(f"there is no model {name!r}; known are {', '.join(sorted(MODELS))}", model=name)
    if in_channels < 1 or classes < 1:
        raise TrainingError(
            f"{name} was asked for {in_channels} bands and {classes} classes; it needs at least one of each",
            in_channels=in_channels,
            classes=classes,
        )
    return builder(in_channels, classes)


def count_parameters(model: nn.Module) -> int:
    """Trainable numbers of a network."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def _conv(in_channels: int, out_channels: int, size: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, size, stride, padding=size // 2, bias=False)


def _shortcut(in_channels: int, out_channels: int, stride: int) -> nn.Module | None:
    """Bring the input to the shape of a block's output; nothing where it has that shape already."""
    if stride == 1 and in_channels == out_channels:
        return None
    return nn.Sequential(_conv(in_channels, out_channels, 1, stride), nn.BatchNorm2d(out_channels))


def _layer(
    block: Callable[[int, int, int], BasicBlock | Bottleneck], in_channels: int, channels: int, depth: int, stride: int
) -> nn.Sequential:
    blocks = [block(in_channels, channels, stride)]
    inner = blocks[0].expansion * channels
    return nn.Sequential(*blocks, *(block(inner, channels, 1) for _ in range(depth - 1)))

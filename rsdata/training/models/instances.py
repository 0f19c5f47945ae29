"""A network for classes that count however little of a patch they cover: it looks at each pixel alone and pools what it sees.

A patch has a label if any of its pixels has: what is called multiple-instance learning. The mean over pixels forgets small
areas, the largest pixel trusts a single one; the log-sum-exp lies between, as near to either as each channel has learned.
Source of the pooling: Pinheiro and Collobert, "From image-level to pixel-level labeling with convolutional networks", CVPR 2015.
"""

import math

import torch
from torch import Tensor, nn

from rsdata.training.models.base import Model

_CHANNELS = (32, 32, 64)
_SHARPNESS = 4.0  # to begin with; towards 0 the mean, towards infinity the largest


class PixelMil(nn.Module):
    """Three 1x1 convolutions, each channel pooled over the patch by ``log(mean(exp(r * x))) / r``, r learned; one linear layer."""

    def __init__(self, in_channels: int, outputs: int, dropout: float = 0.0) -> None:
        super().__init__()
        steps = zip((in_channels, *_CHANNELS), _CHANNELS, strict=False)
        self.layers = nn.Sequential(
            *(nn.Sequential(nn.Conv2d(a, b, 1, bias=False), nn.BatchNorm2d(b), nn.ReLU(inplace=True)) for a, b in steps)
        )
        self.log_sharpness = nn.Parameter(torch.full((_CHANNELS[-1], 1), math.log(_SHARPNESS)))
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(_CHANNELS[-1], outputs)

    def features(self, x: Tensor) -> Tensor:
        seen = self.layers(x).flatten(2)
        sharpness = self.log_sharpness.exp()
        pooled: Tensor = (torch.logsumexp(sharpness * seen, dim=2) - math.log(seen.shape[2])) / sharpness[:, 0]
        return pooled

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.fc(self.dropout(self.features(x)))
        return logits


def _features(network: nn.Module, pixels: Tensor) -> Tensor:
    found: Tensor = network.features(pixels)  # type: ignore[operator]
    return found


INSTANCES: dict[str, Model] = {
    "pixel-mil": Model(
        lambda wanted: PixelMil(wanted.bands, wanted.outputs, wanted.dropout), _features, stem="layers.0.0.weight", drops_path=False
    )
}

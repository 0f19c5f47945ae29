"""Networks of segmentation-models-pytorch, which give an answer for each pixel, on a ResNet-50; never with weights of their own.

They halve their input five times, so patches are enlarged to a multiple of 32 by repeating their edge, and answers cut back.
"""

from torch import Tensor, nn
from torch.nn.functional import pad

from rsdata.training.models.base import Model, Wanted
from rsdata.training.models.library import library

_MULTIPLE = 32


class Padded(nn.Module):
    """A network of encoder, decoder and last layer, for patches of any size."""

    def __init__(self, network: nn.Module, dropout: float) -> None:
        super().__init__()
        self.encoder: nn.Module = network.get_submodule("encoder")
        self.decoder: nn.Module = network.get_submodule("decoder")
        self.segmentation_head: nn.Module = network.get_submodule("segmentation_head")
        self.dropout = nn.Dropout2d(dropout)

    def features(self, x: Tensor) -> Tensor:
        """The mean of what the encoder's coarsest scale found."""
        found: Tensor = self.encoder(_enlarged(x))[-1].mean(dim=(2, 3))
        return found

    def forward(self, x: Tensor) -> Tensor:
        top, left = (_before(side) for side in x.shape[2:])
        logits: Tensor = self.segmentation_head(self.dropout(self.decoder(self.encoder(_enlarged(x)))))
        return logits[:, :, top : top + x.shape[2], left : left + x.shape[3]]


def _before(side: int) -> int:
    """Rows or columns put before a patch; the rest comes after it."""
    return -side % _MULTIPLE // 2


def _enlarged(x: Tensor) -> Tensor:
    rows, columns = ((_before(side), -side % _MULTIPLE - _before(side)) for side in x.shape[2:])
    return pad(x, (*columns, *rows), mode="replicate")


def _smp(name: str) -> Model:
    """Args: name: the library's own."""

    def build(wanted: Wanted) -> nn.Module:
        made = getattr(library("segmentation_models_pytorch", name), name)
        network = made("resnet50", encoder_weights=None, in_channels=wanted.bands, classes=wanted.outputs)
        return Padded(network, wanted.dropout)

    return Model(
        build,
        lambda network, pixels: network.features(pixels),  # type: ignore[operator]
        answers="pixel",
        stem="encoder.conv1.weight",
        head="segmentation_head",
        drops_path=False,
        extra="models",
    )


SMP: dict[str, Model] = {"deeplabv3plus": _smp("DeepLabV3Plus"), "unet": _smp("Unet")}

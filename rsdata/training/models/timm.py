"""Networks of timm, under the short names by which benchmarks on Sentinel-1 and Sentinel-2 know them; never with weights of their own.

ResNet-50 and ResNet-101 are not among them: those in plain torch have the same parameters under the same names.
"""

from torch import Tensor, nn

from rsdata.training.models.base import Model, Wanted
from rsdata.training.models.library import library


def features(network: nn.Module, pixels: Tensor) -> Tensor:
    """What the last layer is shown."""
    found: Tensor = network.forward_head(network.forward_features(pixels), pre_logits=True)  # type: ignore[operator]
    return found


def _timm(name: str, stem: str, head: str, least_px: int = 32, fixed_side: bool = False) -> Model:
    """Args: name: timm's own; least_px: side that all of its halvings leave a pixel of."""

    def build(wanted: Wanted) -> nn.Module:
        network: nn.Module = library("timm", name).create_model(
            name,
            pretrained=False,
            in_chans=wanted.bands,
            num_classes=wanted.outputs,
            drop_rate=wanted.dropout,
            drop_path_rate=wanted.drop_path,
            **({"img_size": wanted.side_px} if fixed_side else {}),
        )
        return network

    return Model(build, features, stem=stem, head=head, least_px=least_px, fixed_side=fixed_side, extra="models")


TIMM: dict[str, Model] = {
    "convnextv2-base": _timm("convnextv2_base", "stem.0.weight", "head.fc"),
    "inceptionnext-base": _timm("inception_next_base", "stem.0.weight", "head.fc2"),
    "mlp-mixer-b16": _timm("mixer_b16_224", "stem.proj.weight", "head", least_px=16, fixed_side=True),
    "mobilenetv4-hybrid-m": _timm("mobilenetv4_hybrid_medium", "conv_stem.weight", "classifier"),
    "mobilevit-s": _timm("mobilevit_s", "stem.conv.weight", "head.fc"),
    "rdnet-base": _timm("rdnet_base", "stem.0.weight", "head.fc"),
    "vit-base": _timm("vit_base_patch8_224", "patch_embed.proj.weight", "head", least_px=8, fixed_side=True),
}

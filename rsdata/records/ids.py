"""Names of products, scenes and patches: built and parsed here and nowhere else."""

import re
from dataclasses import dataclass
from datetime import datetime

from rsdata.errors import CatalogError

_S2_PRODUCT = re.compile(
    r"(?P<scene>(?P<mission>S2[A-D])_MSI(?P<level>L1C|L2A)_(?P<start>\d{8}T\d{6})_(?P<baseline>N\d{4})_(?P<orbit>R\d{3})"
    r"_T(?P<tile>\d{2}[C-X][A-Z]{2}))_(?P<discriminator>\d{8}T\d{6})(?:\.SAFE)?",
    re.ASCII,
)
_S1_PRODUCT = re.compile(
    r"(?P<scene>(?P<mission>S1[A-D])_(?P<mode>IW|EW|SM)_GRD[FHM]_1S(?P<polarisation>DV|DH|SV|SH)_(?P<start>\d{8}T\d{6}))"
    r"(?:_\d{8}T\d{6}_\d{6}_[0-9A-F]{6}(?:_[0-9A-F]{4})?)?(?:\.SAFE)?",
    re.ASCII,
)
_PATCH_ID = re.compile(
    r"(?P<scene>S2[A-D]_MSIL(?:1C|2A)_\d{8}T\d{6}_N\d{4}_R\d{3}_T(?P<tile>\d{2}[C-X][A-Z]{2}))_(?P<col>\d{2})_(?P<row>\d{2})", re.ASCII
)


@dataclass(frozen=True)
class PatchId:
    """A patch's name taken apart: the scene it was cut from and where it lies in its tile."""

    scene: str  # S2 product name without its processing-time suffix
    col: int  # 0 to 90, eastward
    row: int  # 0 to 90, southward

    @classmethod
    def parse(cls, text: str) -> "PatchId":
        """Raises: CatalogError if the text is no patch id."""
        match = _PATCH_ID.fullmatch(text)
        if match is None:
            raise CatalogError(
                f"{text!r} is not a patch id; expected a name such as S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP_26_57",
                patch_id=text,
            )
        return cls(match["scene"], int(match["col"]), int(match["row"]))

    def __str__(self) -> str:
        return f"{self.scene}_{self.col:02d}_{self.row:02d}"

    @property
    def tile(self) -> str:
        return self.scene[-5:]

    @property
    def mission(self) -> str:
        """S2A to S2D."""
        return self.scene[:3]


def place_id(tile: str, col: int, row: int) -> str:
    """Name of a place of the patch grid whatever the date, such as ``33UUP_26_57``."""
    return f"{tile}_{col:02d}_{row:02d}"


def s2_scene_id(product: str) -> str:
    """Name of a Sentinel-2 product without its processing time: the first part of its patch ids.

    Raises: CatalogError if the name is not compact naming (products since December 2016).
    """
    match = _S2_PRODUCT.fullmatch(product)
    if match is None:
        raise CatalogError(
            f"{product!r} is not a Sentinel-2 product name; expected compact naming such as "
            "S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP_20200827T101031",
            product=product,
        )
    return match["scene"]


def s1_scene_id(product: str) -> str:
    """Name of a Sentinel-1 product up to its start time: the first part of its patch ids.

    Raises: CatalogError if the name is not that of a Sentinel-1 GRD product.
    """
    match = _S1_PRODUCT.fullmatch(product)
    if match is None:
        raise CatalogError(
            f"{product!r} is not a Sentinel-1 GRD product name; expected a name such as "
            "S1A_IW_GRDH_1SDV_20170613T165043_20170613T165108_017014_01C595_B2A5",
            product=product,
        )
    return match["scene"]


def is_s1_product(name: str) -> bool:
    """Whether a file or folder is named like a Sentinel-1 GRD product."""
    return _S1_PRODUCT.fullmatch(name) is not None


def s1_patch_id(s1_scene: str, patch: PatchId) -> str:
    """The Sentinel-1 twin of a patch, such as ``S1A_IW_GRDH_1SDV_20170613T165043_33UUP_26_57``.

    Unlike a patch id it does not pad column and row, as all 13,956 published names of three tiles show.
    """
    return f"{s1_scene}_{patch.tile}_{patch.col}_{patch.row}"


def reference_map_id(patch_id: str) -> str:
    """Key of a patch's reference map."""
    return f"{patch_id}_reference_map"


def parse_start(stamp: str) -> datetime:
    """Read a product name's ``20170613T101031`` as UTC."""
    return datetime.strptime(f"{stamp}+0000", "%Y%m%dT%H%M%S%z")


def s1_start(scene: str) -> datetime:
    """Start of a Sentinel-1 acquisition, UTC, from its scene id."""
    return parse_start(scene.rsplit("_", 1)[-1])

"""A torchvision for another torch, made loadable for tests: its compiled operators are declared without being there.

Libraries of networks import torchvision, and where no build of it fits (see the Makefile) one that does not lies aside. No network
that is tested here calls one of its operators. The product does no such thing: it says what to install.
"""

import importlib
import importlib.util
import sys
from pathlib import Path

OPERATORS = (
    "_deform_conv2d_backward _ps_roi_align_backward _ps_roi_pool_backward _roi_align_backward _roi_pool_backward "
    "deform_conv2d nms ps_roi_align ps_roi_pool qnms qroi_align roi_align roi_pool"
)
_declared: list[object] = []  # operators live as long as what declared them


def make_loadable() -> None:
    """Nothing if a torchvision is installed, or none lies aside."""
    import torch

    aside = Path(sys.prefix) / "torchvision-aside"
    if importlib.util.find_spec("torchvision") is not None or not aside.is_dir():
        return
    library = torch.library.Library("torchvision", "DEF")
    for name in OPERATORS.split():
        library.define(f"{name}() -> ()")
    _declared.append(library)
    sys.path.append(str(aside))
    try:
        importlib.import_module("torchvision")
    finally:
        sys.path.remove(str(aside))  # spawned processes get this path, and lack the operators

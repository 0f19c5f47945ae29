"""How a cube shall be coded, refused here before a wrong number reaches an encoder.

Some encoders end the whole process on a parameter they do not like (x265 with a negative quantiser does), so nothing
that a user says goes to one unchecked.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from rsdata.errors import ShardError

Mode = Literal["lossless", "maxerr", "lossy", "auto"]
MODES: tuple[Mode, ...] = get_args(Mode)
Verify = Literal["all", "sample"]
PRESETS = ("adaptive", "ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower")  # of x265 but the first
DTYPES = ("uint8", "uint16", "int16", "float32")
MIN_SIDE_PX = 16
MAX_SIDE_PX = 16_384
MAX_FRAMES = 1_000
MAX_BANDS = 224
MAX_KEYINT = 250
# Largest cube that is coded or decoded at once, bytes of samples; a header that claims more is refused unread.
MAX_BYTES = 4 * 2**30


@dataclass(frozen=True)
class VideoSettings:
    """What to keep of a cube, and how it may be read again.

    One of ``max_error`` (mode maxerr), ``step`` (lossy), ``target_bpppb`` or ``target_psnr_db`` (auto) says how good.
    """

    mode: Mode = "lossless"
    max_error: float | None = None  # largest absolute error of any sample, in the cube's unit
    step: float | None = None  # quantiser step of the transformed bands, in the cube's unit
    target_bpppb: float | None = None  # bits per pixel and band, everything counted
    target_psnr_db: float | None = None  # over the cube's own range, largest less smallest value
    keyint: int | None = None  # frames from one point of entry to the next; None: about 24 for video, as few as pay for stills
    preset: str = "adaptive"  # of x265; adaptive: as thorough as pays at the step and the size of frames
    transform: Literal["klt", "none"] = "klt"
    mix_dates: bool = True  # lossy: dates of a segment may be mixed where that costs less than predicting one from another
    group_bands: int = 16  # bands that share a transform, at most
    nodata: float | None = None  # samples of this value come back as they were, in every mode; NaN always does
    verify: Verify = "all"  # frames decoded again after coding; "sample" is allowed for lossless only

    def __post_init__(self) -> None:
        """Raises: ShardError if a value is out of its range, missing for the mode or of no use to it."""
        if self.mode not in MODES:
            raise ShardError(f"{self.mode!r} is no mode of a video shard; choose one of {', '.join(MODES)}", mode=self.mode)
        needs = {"lossless": (), "maxerr": ("max_error",), "lossy": ("step",), "auto": ("target_bpppb", "target_psnr_db")}[self.mode]
        given = [name for name in ("max_error", "step", "target_bpppb", "target_psnr_db") if getattr(self, name) is not None]
        if set(given) - set(needs) or len(given) != min(1, len(needs)):
            wanted = f"needs {' or '.join(needs)}" if needs else "takes no figure of quality"
            raise ShardError(f"mode {self.mode} {wanted}, and was given {', '.join(given) or 'none'}", mode=self.mode, given=given)
        for name in given:
            value = getattr(self, name)
            if not math.isfinite(value) or value <= 0:
                raise ShardError(f"{name} is {value}; it must be a number above 0", name=name, value=value)
        _in_range("keyint", self.keyint, 1, MAX_KEYINT)
        _in_range("group_bands", self.group_bands, 1, MAX_BANDS)
        if self.preset not in PRESETS:
            raise ShardError(
                f"{self.preset!r} is no preset of x265 that is used here; choose one of {', '.join(PRESETS)}", preset=self.preset
            )
        if self.transform not in ("klt", "none"):
            raise ShardError(f"{self.transform!r} is no transform between bands; choose klt or none", transform=self.transform)
        if self.verify not in get_args(Verify) or (self.verify == "sample" and self.mode != "lossless"):
            raise ShardError("only lossless coding may be verified on a sample; the others must measure every sample they promise about")


def _in_range(name: str, value: int | None, low: int, high: int) -> None:
    if value is not None and not (isinstance(value, int) and low <= value <= high):
        raise ShardError(f"{name} is {value}; it must be a whole number from {low} to {high}", name=name, value=value)


def can_hold(dtype: np.dtype, value: float) -> bool:
    """Whether a type has the value; a float32 need not have all its digits."""
    if dtype.kind == "f":
        return abs(value) <= float(np.finfo(dtype).max)
    return value == int(value) and np.iinfo(dtype).min <= value <= np.iinfo(dtype).max


def check_cube(cube: np.ndarray, bands: Sequence[str]) -> None:
    """Raises: ShardError if a cube is not (time, band, y, x) of a type and size that can be coded."""
    if cube.ndim != 4:
        raise ShardError(f"a cube has four dimensions (time, band, y, x); this one has {cube.ndim}: {cube.shape}", shape=cube.shape)
    if cube.dtype.name not in DTYPES:
        raise ShardError(f"samples are {cube.dtype}; a video shard holds {', '.join(DTYPES)}; convert them first", dtype=str(cube.dtype))
    check_shape(cube.shape, cube.dtype.itemsize)
    if len(bands) != cube.shape[1] or len(set(bands)) != len(bands):
        raise ShardError(f"{cube.shape[1]} bands need as many different names; got {list(bands)}", bands=list(bands))


def check_shape(shape: Sequence[int], itemsize: int, max_bytes: int = MAX_BYTES) -> None:
    """Raises: ShardError if (time, band, y, x) is larger or smaller than can be coded."""
    frames, bands, *sides = shape
    for name, value, low, high in (
        ("frames", frames, 1, MAX_FRAMES),
        ("bands", bands, 1, MAX_BANDS),
        ("rows", sides[0], MIN_SIDE_PX, MAX_SIDE_PX),
        ("columns", sides[1], MIN_SIDE_PX, MAX_SIDE_PX),
    ):
        if not low <= value <= high:
            raise ShardError(f"a cube of {value} {name} cannot be coded; {low} to {high} can", shape=tuple(shape))
    if math.prod(shape) * itemsize > max_bytes:
        raise ShardError(
            f"a cube of {math.prod(shape) * itemsize / 2**20:.0f} MiB is larger than the {max_bytes / 2**20:.0f} MiB that are allowed; "
            "cut it into smaller ones or raise the limit",
            shape=tuple(shape),
        )

"""The eight symmetries of a square, for image, mask, boxes, points and texts together, so that what a text says stays true.

Symmetries are numbered as everywhere in rsdata: quarter turns as ``numpy.rot90`` counts them, from 4 on followed by a mirror
from left to right. A turned image is read as if the ground had been turned: north is up again, and the words change.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import torch
from pydantic import BaseModel

from rsdata.errors import TrainingError
from rsdata.shards.reading import SYMMETRIES
from rsdata.training.turned_words import turn_text

_Pixels = TypeVar("_Pixels", np.ndarray, torch.Tensor)


def turn_pixels(pixels: _Pixels, symmetry: int) -> _Pixels:
    """Turn an image or mask.

    Args:
        pixels: (..., y, x) of any type; the square sides last.
        symmetry: 0 to 7; 0 leaves it as it is.

    Returns: (..., y, x), of the same type; a view where that is possible.
    Raises: TrainingError if it is not square and would not keep its shape, or there is no such symmetry.
    """
    turns, mirrored = _parts(symmetry)
    if turns % 2 and pixels.shape[-1] != pixels.shape[-2]:
        raise TrainingError(
            f"an image of {pixels.shape[-2]} by {pixels.shape[-1]} pixels cannot be turned by a quarter; cut it to a square",
            shape=tuple(pixels.shape),
        )
    if isinstance(pixels, torch.Tensor):
        turned = torch.rot90(pixels, turns, (-2, -1))
        return torch.flip(turned, (-1,)) if mirrored else turned
    array = np.rot90(pixels, turns, (-2, -1))
    return array[..., ::-1] if mirrored else array


def turn_boxes(boxes: Any, symmetry: int, side_px: int) -> Any:
    """Turn half-open boxes ``[x0, x1) × [y0, y1)`` of a square raster.

    Args:
        boxes: (..., 4) whole numbers x0, y0, x1, y1, as a list, an array or a tensor; or a record or dict with these names.
        symmetry: 0 to 7.
        side_px: of the raster the boxes refer to.

    Returns: the same kind of thing, which encloses the turned region as exactly as before.
    Raises: TrainingError if there is no such symmetry, or a box does not lie inside the raster.
    """
    _parts(symmetry)
    return _apply(boxes, ("x0", "y0", "x1", "y1"), lambda array: _turn_box_array(array, symmetry, side_px))


def turn_points(points: Any, symmetry: int, side_px: int) -> Any:
    """Turn pixels given by column and row, counted from 0.

    Args: as for boxes, with (..., 2) x, y.
    Raises: TrainingError if there is no such symmetry, or a point does not lie inside the raster.
    """
    _parts(symmetry)
    return _apply(points, ("x", "y"), lambda array: _turn_point_array(array, symmetry, side_px))


def combined(first: int, second: int) -> int:
    """The one symmetry that does what two do one after the other."""
    (turns, mirrored), (more, again) = _parts(first), _parts(second)
    return (turns + (-more if mirrored else more)) % 4 + 4 * (mirrored != again)


def inverse(symmetry: int) -> int:
    """The symmetry that undoes another; a mirrored one undoes itself."""
    turns, mirrored = _parts(symmetry)
    return symmetry if mirrored else -turns % 4


@dataclass(frozen=True)
class Turned:
    """Turns all parts of a sample, a dict, by one symmetry; parts that a sample lacks or that are None stay so.

    The words of a list of options are turned one by one and keep their order, so the index of the right one stays right.
    Boxes ``[x0, y0, x1, y1]`` and pixels ``(x, y)`` that stand in a text in digits are turned as well.
    """

    symmetry: int
    side_px: int = 120  # of the raster that boxes and points refer to: the reference map's
    pixels: tuple[str, ...] = ("image", "mask", "reference_map", "s1", "s2")
    boxes: tuple[str, ...] = ("box", "boxes")
    points: tuple[str, ...] = ("point", "points")
    texts: tuple[str, ...] = ("input", "output", "options", "text", "caption", "question", "answer")
    names: tuple[str, ...] = field(default=())  # of classes and places, which keep their words: "Northern peatland"

    def __call__(self, sample: Mapping[str, Any]) -> dict[str, Any]:
        """A sample with its parts turned; the given one is left as it is.

        Raises: TrainingError if a text cannot be turned, or pixels, a box or a point cannot.
        """
        turned = dict(sample)
        for names, turn in (
            (self.pixels, lambda part: turn_pixels(part, self.symmetry)),
            (self.boxes, lambda part: turn_boxes(part, self.symmetry, self.side_px)),
            (self.points, lambda part: turn_points(part, self.symmetry, self.side_px)),
            (self.texts, self._turn_texts),
        ):
            turned |= {name: turn(sample[name]) for name in names if sample.get(name) is not None}
        return turned

    def _turn_texts(self, texts: Any) -> Any:
        if isinstance(texts, str):
            return turn_words(texts, self.symmetry, self.side_px, self.names)
        return type(texts)(self._turn_texts(each) for each in texts)


class RandomTurn:
    """Turns each sample by a symmetry drawn anew; the same seed draws the same ones.

    In a loader's worker processes each worker draws from its own numbers, as torch seeds them: give ``seed`` None there, or
    use ``at`` with the sample's own number.
    """

    def __init__(self, seed: int | None = 0, symmetries: Sequence[int] = range(SYMMETRIES), **parts: Any) -> None:
        """Take a seed, the symmetries to draw from, and what ``Turned`` is to be told of the sample's parts.

        Raises: TrainingError if no symmetry is given, or one that does not exist.
        """
        if not symmetries:
            raise TrainingError("there is no symmetry to draw from; name at least one of 0 to 7")
        for each in symmetries:
            _parts(each)
        self._turned = [Turned(each, **parts) for each in symmetries]
        self.seed = seed
        self._random = None if seed is None else np.random.default_rng(seed)

    def __call__(self, sample: Mapping[str, Any]) -> dict[str, Any]:
        """A sample turned by the next symmetry."""
        count = len(self._turned)
        drawn = int(torch.randint(count, ())) if self._random is None else int(self._random.integers(count))
        return self._turned[drawn](sample)

    def at(self, sample: Mapping[str, Any], number: int, epoch: int = 0) -> dict[str, Any]:
        """A sample turned by what is drawn for its number and epoch, whatever was drawn before, in whatever process."""
        drawn = np.random.default_rng((self.seed or 0, epoch, number)).integers(len(self._turned))
        return self._turned[int(drawn)](sample)


def turn_words(text: str, symmetry: int, side_px: int = 120, names: Iterable[str] = ()) -> str:
    """Turn the direction words of a text, and the boxes and pixels in it.

    Args:
        text: in English. Single letters are options, not directions; NE, SE, SW and NW are directions.
        symmetry: 0 to 7; 0 leaves every text as it is.
        side_px: of the raster that boxes and pixels refer to.
        names: of classes and places; words in them stay.

    Returns: the text, true of the turned image if it was true of the straight one.
    Raises: TrainingError if it says something that a turned image makes false and no other word mends: a slope that faces
        north, shadows, the sun, a hemisphere, a part of a country.
    """
    turns, mirrored = _parts(symmetry)
    if not symmetry:
        return text
    return turn_text(
        text,
        turns,
        mirrored,
        tuple(names),
        box=lambda found: turn_boxes(found, symmetry, side_px),
        point=lambda found: turn_points(found, symmetry, side_px),
    )


def _parts(symmetry: int) -> tuple[int, bool]:
    """Quarter turns and whether a mirror follows."""
    if symmetry not in range(SYMMETRIES):
        raise TrainingError(f"there is no symmetry {symmetry!r}; a square has those from 0 to {SYMMETRIES - 1}", symmetry=symmetry)
    return int(symmetry) % 4, symmetry >= 4


def _turn_box_array(boxes: np.ndarray, symmetry: int, side_px: int) -> np.ndarray:
    x0, y0, x1, y1 = np.moveaxis(boxes, -1, 0)
    if np.any((x0 < 0) | (y0 < 0) | (x1 > side_px) | (y1 > side_px) | (x0 > x1) | (y0 > y1)):
        raise TrainingError(
            f"a box does not lie inside the raster of {side_px} pixels: {boxes.tolist()}; give the raster's side", boxes=boxes
        )
    turns, mirrored = _parts(symmetry)
    for _ in range(turns):
        x0, y0, x1, y1 = y0, side_px - x1, y1, side_px - x0
    if mirrored:
        x0, x1 = side_px - x1, side_px - x0
    return np.stack([x0, y0, x1, y1], axis=-1)


def _turn_point_array(points: np.ndarray, symmetry: int, side_px: int) -> np.ndarray:
    x, y = np.moveaxis(points, -1, 0)
    if np.any((x < 0) | (y < 0) | (x >= side_px) | (y >= side_px)):
        raise TrainingError(
            f"a point does not lie inside the raster of {side_px} pixels: {points.tolist()}; give the raster's side", points=points
        )
    box = _turn_box_array(np.stack([x, y, x + 1, y + 1], axis=-1), symmetry, side_px)
    return box[..., :2]


def _apply(things: Any, names: tuple[str, ...], turn: Callable[[np.ndarray], np.ndarray]) -> Any:
    """Turn numbers in whatever holds them, and give back the same kind of thing."""
    if isinstance(things, BaseModel):
        numbers = turn(np.array([getattr(things, name) for name in names])).tolist()
        return things.model_copy(update=dict(zip(names, numbers, strict=True)))
    if isinstance(things, Mapping):
        numbers = turn(np.array([things[name] for name in names])).tolist()
        return {**things, **dict(zip(names, numbers, strict=True))}
    if isinstance(things, torch.Tensor):
        return torch.as_tensor(turn(things.cpu().numpy()).copy(), dtype=things.dtype, device=things.device)
    if isinstance(things, np.ndarray):
        return turn(things).astype(things.dtype)
    if len(things) and isinstance(things[0], BaseModel | Mapping):
        return type(things)(_apply(each, names, turn) for each in things)
    if not len(things):
        return things
    array = np.array(things)
    if array.shape[-1:] != (len(names),):
        raise TrainingError(f"found {things!r}; expected {len(names)} numbers {', '.join(names)}")
    turned = turn(array).tolist()
    return tuple(turned) if isinstance(things, tuple) else turned

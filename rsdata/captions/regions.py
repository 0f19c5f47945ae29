"""What a map of classes holds, by one compiled pass over its pixels: areas, connected regions, and shared borders.

Pixels of one class belong to one region if they touch by a side or a corner (8-connectivity). A border is where two
classes touch by a side. All sums are whole numbers, so what follows from them is the same on every machine.
"""

from typing import NamedTuple

import numpy as np

from rsdata.compiled import compiled


class Regions(NamedTuple):
    """Regions of a map in reading order of their first pixels, one array element each, int64."""

    class_index: np.ndarray
    pixels: np.ndarray
    twice_x: np.ndarray  # sum over pixels of twice the column of its centre, 2 * column + 1
    twice_y: np.ndarray
    x0: np.ndarray  # box, half-open, pixels
    y0: np.ndarray
    x1: np.ndarray
    y1: np.ndarray
    inside_x: np.ndarray  # the pixel nearest to the centroid; of several, the first in reading order
    inside_y: np.ndarray


class Measured(NamedTuple):
    """What one map holds, by class index."""

    pixels: np.ndarray  # (class,) int64
    region_count: np.ndarray  # (class,) int64, regions of any size
    sides: np.ndarray  # (class, class) int64, shared sides of pixels; filled above the diagonal
    regions: Regions


def measure(codes: np.ndarray, index_of_code: np.ndarray, classes: int) -> Measured:
    """Measure one map.

    Args:
        codes: (y, x) uint16.
        index_of_code: (65536,) int16, the class index of each code; -1 for a code without a class.
        classes: how many classes there are.
    """
    pixels, region_count, sides, regions = _measure(codes, index_of_code, classes)
    return Measured(pixels, region_count, sides, Regions(*regions))


@compiled()
def _root(parent, label):  # type: ignore[no-untyped-def]
    while parent[label] != label:
        parent[label] = parent[parent[label]]
        label = parent[label]
    return label


@compiled()
def _measure(codes, index_of_code, classes):  # type: ignore[no-untyped-def]
    height, width = codes.shape
    index = np.empty((height, width), np.int16)
    label = np.empty((height, width), np.int32)
    parent = np.empty(height * width, np.int32)
    pixels = np.zeros(classes, np.int64)
    sides = np.zeros((classes, classes), np.int64)
    labels = 0
    for y in range(height):
        for x in range(width):
            own = index_of_code[codes[y, x]]
            index[y, x] = own
            label[y, x] = -1
            if own < 0:
                continue
            pixels[own] += 1
            above = index[y - 1, x] if y > 0 else -1
            left = index[y, x - 1] if x > 0 else -1
            if above >= 0 and above != own:
                sides[min(own, above), max(own, above)] += 1
            if left >= 0 and left != own:
                sides[min(own, left), max(own, left)] += 1
            # Neighbours that were visited are joined already where they touch each other, so most pixels need one look.
            if above == own:
                label[y, x] = label[y - 1, x]
                continue
            west = -1
            if left == own:
                west = label[y, x - 1]
            elif y > 0 and x > 0 and index[y - 1, x - 1] == own:
                west = label[y - 1, x - 1]
            east = label[y - 1, x + 1] if y > 0 and x + 1 < width and index[y - 1, x + 1] == own else -1
            if west >= 0 and east >= 0:
                west, east = _root(parent, west), _root(parent, east)
                west, east = min(west, east), max(west, east)
                parent[east] = west
            if west < 0 and east < 0:
                west = labels
                parent[west] = west
                labels += 1
            label[y, x] = west if west >= 0 else east

    # A root is the smallest label of its region, so numbers in rising order of roots are those in reading order.
    number = np.empty(labels, np.int32)
    count = 0
    for each in range(labels):
        if parent[each] == each:
            number[each] = count
            count += 1
        else:
            number[each] = number[_root(parent, each)]

    found_regions = np.zeros((10, count), np.int64)
    found_regions[4:6] = width + height
    for y in range(height):
        for x in range(width):
            if label[y, x] < 0:
                continue
            region = number[label[y, x]]
            label[y, x] = region
            found_regions[0, region] = index[y, x]
            found_regions[1, region] += 1
            found_regions[2, region] += 2 * x + 1
            found_regions[3, region] += 2 * y + 1
            found_regions[4, region] = min(found_regions[4, region], x)
            found_regions[5, region] = min(found_regions[5, region], y)
            found_regions[6, region] = max(found_regions[6, region], x + 1)
            found_regions[7, region] = max(found_regions[7, region], y + 1)
    region_count = np.zeros(classes, np.int64)
    for region in range(count):
        region_count[found_regions[0, region]] += 1

    nearest = np.full(count, np.iinfo(np.int64).max, np.int64)
    for y in range(height):
        for x in range(width):
            region = label[y, x]
            if region < 0:
                continue
            size = found_regions[1, region]
            across = (2 * x + 1) * size - found_regions[2, region]
            down = (2 * y + 1) * size - found_regions[3, region]
            distance = across * across + down * down
            if distance < nearest[region]:
                nearest[region] = distance
                found_regions[8, region] = x
                found_regions[9, region] = y
    return pixels, region_count, sides, found_regions

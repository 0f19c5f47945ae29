"""Which classes are easily taken for each other: those that a coarser level of the hierarchy puts together.

CORINE's codes carry their hierarchy: 311 and 312 are both forests (31), and with 321 natural land (3). Other sources have
one if a table converts their codes to CORINE's first level.
"""

from rsdata.errors import LabelError
from rsdata.labels.nomenclature import NOMENCLATURES, Nomenclature, load_nomenclature

_WIDTHS = (10, 100)  # a level-3 code without its last digit, and without its last two


def siblings(nomenclature: Nomenclature) -> dict[str, list[list[str]]]:
    """Class to the classes that share a group with it, at each level, the narrowest first; a class is left out if it has none."""
    levels = _levels(nomenclature)
    found: dict[str, list[list[str]]] = {}
    for own in nomenclature.classes:
        seen = {own.name}
        near: list[list[str]] = []
        for group_of in levels:
            shared = {group_of[code] for code in own.codes if code in group_of}
            near.append(
                [
                    each.name
                    for each in nomenclature.classes
                    if each.name not in seen and shared & {group_of.get(code) for code in each.codes}
                ]
            )
            seen.update(near[-1])
        if len(seen) > 1:
            found[own.name] = near
    return found


def _levels(nomenclature: Nomenclature) -> list[dict[int, int]]:
    """Code of the map to group, for each level from narrow to wide."""
    corine = load_nomenclature("clc-3").code_names
    if nomenclature.code_names.items() <= corine.items():
        return [{code: code // width for code in nomenclature.code_names} for width in _WIDTHS]
    for name in NOMENCLATURES:
        if load_nomenclature(name).code_names != nomenclature.code_names:
            continue
        try:
            wide = load_nomenclature("clc-1", source=name)
        except LabelError:
            continue  # no table converts it
        return [{code: each.index for each in wide.classes for code in each.codes}]
    return []

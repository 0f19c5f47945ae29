"""Class tables: which codes a reference map may hold and which multi-label class each code means.

The tables are CSV beside this module. A class takes the colour of its first code, which is the official
CORINE colour; classes are numbered in the order their first code has in CORINE.
"""

import csv
from dataclasses import dataclass
from functools import cache
from importlib import resources

from rsdata.errors import LabelError
from rsdata.records import LabelClass
from rsdata.sensors.reference_map import NO_POLYGON

# name of a nomenclature: table, column that holds its class names
NOMENCLATURES = {"bigearthnet-19": ("clc2018.csv", "bigearthnet_19")}


@dataclass(frozen=True)
class Nomenclature:
    """The codes of a reference map and the classes they mean."""

    name: str
    code_names: dict[int, str]  # every code the source may hold
    code_colors: dict[int, str]  # code to #rrggbb
    classes: tuple[LabelClass, ...]

    @property
    def class_of_code(self) -> dict[int, str]:
        """Code to class name; a code without a class is absent."""
        return {code: each.name for each in self.classes for code in each.codes}

    @property
    def unlabeled_codes(self) -> list[int]:
        """Codes that mean no class, the code for "no polygon" among them."""
        mapped = self.class_of_code
        return sorted({code for code in self.code_names if code not in mapped} | {NO_POLYGON})


@cache
def load_nomenclature(name: str) -> Nomenclature:
    """Read a nomenclature by its short name.

    Raises: LabelError if there is none of that name.
    """
    if name not in NOMENCLATURES:
        raise LabelError(f"there is no nomenclature {name!r}; known are {', '.join(sorted(NOMENCLATURES))}", nomenclature=name)
    table, column = NOMENCLATURES[name]
    with resources.files("rsdata.labels").joinpath(table).open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    codes: dict[str, list[int]] = {}
    for row in rows:
        if row[column]:
            codes.setdefault(row[column], []).append(int(row["code"]))
    colors = {int(row["code"]): row["color"] for row in rows}
    return Nomenclature(
        name=name,
        code_names={int(row["code"]): row["name"] for row in rows},
        code_colors=colors,
        classes=tuple(
            LabelClass(index=index, name=class_name, color=colors[members[0]], codes=members)
            for index, (class_name, members) in enumerate(codes.items())
        ),
    )

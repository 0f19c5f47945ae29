"""CORINE Land Cover as vectors: polygons with a level-3 code.

Any vector format will do, in any CRS, with the code under any of its usual names.
"""

import re
from pathlib import Path

import numpy as np
import pandas as pd

from rsdata.errors import LabelError
from rsdata.labels.layer import Area, files_of
from rsdata.labels.nomenclature import Nomenclature
from rsdata.labels.polygon_layer import PolygonLayer
from rsdata.labels.vectors import find_column, read_polygons
from rsdata.recipe import Labels
from rsdata.sensors.reference_map import NO_POLYGON

# Code_18, CODE_18, code_18, CLC18, CLC_CODE, …
_CODE_COLUMN = re.compile(r"(code|clc)_?(\d{2}|\d{4}|code)", re.IGNORECASE)


class Corine:
    """Polygons of CORINE Land Cover, of any year."""

    codes = "clc-3"

    def files(self, path: Path, area: Area) -> list[Path]:
        return files_of(path)

    def read(self, path: Path, area: Area, nomenclature: Nomenclature, said: Labels) -> PolygonLayer:
        def choose(fields: list[str]) -> str | None:
            if said.code_column is not None:
                return said.code_column if said.code_column in fields else None
            return next((field for field in fields if _CODE_COLUMN.fullmatch(field)), None)

        column = find_column(
            path,
            said.layer,
            choose,
            said.code_column or "with class codes",
            "expected one such as Code_18 or CLC18, so name it under labels.code_column",
        )
        found = read_polygons(path, column, area)
        codes = pd.to_numeric(found.values, errors="coerce")
        unknown = sorted({str(value) for value in found.values[~codes.isin([*nomenclature.code_names, NO_POLYGON])]})
        if unknown:
            raise LabelError(
                f"{path.name}: column {column.name} holds {', '.join(unknown[:5])}{' and more' if len(unknown) > 5 else ''}; "
                f"expected the {len(nomenclature.code_names)} codes of the nomenclature {nomenclature.name}, such as 111 or 523, "
                "so correct the layer or name another",
                path=str(path),
                codes=unknown,
            )
        return PolygonLayer(codes.astype(np.uint16).to_numpy(), found.geometry, found.repaired, found.left_out)

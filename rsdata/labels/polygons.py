"""Any polygon layer with a class column: parcels, OpenStreetMap land use, a national map.

The recipe names the column and a nomenclature table; its column ``values`` says which text of the class column
means which code, so that several may mean one.
"""

from pathlib import Path

import numpy as np

from rsdata.errors import LabelError
from rsdata.labels.layer import Area, files_of
from rsdata.labels.nomenclature import Nomenclature
from rsdata.labels.polygon_layer import PolygonLayer
from rsdata.labels.vectors import find_column, read_polygons
from rsdata.recipe import Labels


class AnyPolygons:
    """Polygons whose classes a table explains."""

    codes = None

    def files(self, path: Path, area: Area) -> list[Path]:
        return files_of(path)

    def read(self, path: Path, area: Area, nomenclature: Nomenclature, said: Labels) -> PolygonLayer:
        """Read what lies over an area; a polygon whose class column is empty means no label."""
        wanted = said.code_column
        if wanted is None:
            raise LabelError(
                f"the source polygons needs to know which column of {path.name} holds the class; name it under labels.code_column"
            )
        column = find_column(
            path, said.layer, lambda fields: wanted if wanted in fields else None, wanted, "name one of them under labels.code_column"
        )
        found = read_polygons(path, column, area)
        texts = found.values.map(_text, na_action="ignore")
        stated = texts.notna().to_numpy()
        unknown = sorted(set(texts[stated]) - set(nomenclature.code_of_value))
        if unknown:
            raise LabelError(
                f"{path.name}: column {column.name} holds {', '.join(map(repr, unknown[:5]))}{' and more' if len(unknown) > 5 else ''}, "
                f"which the nomenclature {nomenclature.name} does not know; add {'them' if len(unknown) > 1 else 'it'} to the column "
                "values of a class, or as a row without an index",
                path=str(path),
                values=unknown,
            )
        codes = np.array([nomenclature.code_of_value[text] for text in texts[stated]], np.uint16)
        return PolygonLayer(codes, found.geometry[stated], found.repaired[stated], found.left_out + int((~stated).sum()))


def _text(value: object) -> str:
    """A cell as the table would write it: whole numbers without a point, though a column with gaps reads as floats."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).strip()

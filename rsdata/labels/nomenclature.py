"""Class tables: which codes a reference map may hold and which multi-label class each code means.

Nomenclatures and the conversions between them are CSV files in ``tables/`` beside this module, and a user's own
files of the same form serve as well. Classes are numbered by the column ``index`` of their table.
"""

import csv
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from rsdata.errors import LabelError
from rsdata.records import LabelClass
from rsdata.sensors.reference_map import NO_POLYGON

NOMENCLATURES = ("clc-1", "clc-2", "clc-3", "bigearthnet-43", "bigearthnet-19", "dynamic-world-9", "worldcover-11")
# Nomenclatures that only group the codes of another: without a word on where codes come from, they come from that one.
_GROUPS_OF = {"clc-1": "clc-3", "clc-2": "clc-3", "bigearthnet-43": "clc-3", "bigearthnet-19": "clc-3"}
_TABLES = resources.files("rsdata.labels").joinpath("tables")
_COLOR = re.compile(r"#[0-9a-f]{6}")
_HIGHEST_CODE = 65_535  # a reference map is uint16


@dataclass(frozen=True)
class ClassRow:
    """One row of a class table."""

    code: int  # in the reference map
    index: int | None  # place of the class; None for a code that is known but means no class
    name: str
    color: str  # #rrggbb
    values: tuple[str, ...]  # what stands for it in the class column of a polygon layer; the code itself if none is given


@dataclass(frozen=True)
class Nomenclature:
    """The codes of a reference map and the classes they mean."""

    name: str
    code_names: dict[int, str]  # every code the source may hold
    code_colors: dict[int, str]  # code to #rrggbb
    classes: tuple[LabelClass, ...]
    code_of_value: dict[str, int]  # text in the class column of a polygon layer to code

    @cached_property
    def class_of_code(self) -> dict[int, str]:
        """Code to class name; a code without a class is absent."""
        return {code: each.name for each in self.classes for code in each.codes}

    @property
    def unlabeled_codes(self) -> list[int]:
        """Codes that mean no class, the code for "no polygon" among them."""
        mapped = self.class_of_code
        return sorted({code for code in self.code_names if code not in mapped} | {NO_POLYGON})

    @property
    def digest(self) -> str:
        """SHA-256 over all the tables say; a user's own table may change under the same name."""
        said = (self.code_names, self.code_colors, [each.model_dump() for each in self.classes], self.code_of_value)
        return hashlib.sha256(repr(said).encode()).hexdigest()


def load_nomenclature(name: str | Path, source: str | None = None, conversion: str | Path | None = None) -> Nomenclature:
    """Read a nomenclature by its short name, or from a CSV file.

    Args:
        name: a short name, or the path of a table with the columns code, index, name, color and optionally values.
        source: nomenclature of the codes on the map. If absent it is the nomenclature itself, or CORINE's level 3 for
            those that only group its codes (the other CORINE levels and BigEarthNet's).
        conversion: path of a table with the columns from_code and to_code; needed where rsdata has none from the source.

    Raises: LabelError if there is no such table, it is malformed, or nothing converts the source's codes.
    """
    rows = _class_rows(name)
    label = _label(name)
    origin = source if source is not None else _GROUPS_OF.get(str(name), str(name))
    if conversion is None and origin == str(name):
        codes = rows
        codes_of = {row.code: [row.code] for row in rows}
    else:
        codes = _class_rows(origin)
        codes_of = {row.code: [] for row in rows}
        for code, target in _conversion(origin, codes, label, rows, conversion).items():
            codes_of[target].append(code)
    return Nomenclature(
        name=label,
        code_names={row.code: row.name for row in codes},
        code_colors={row.code: row.color for row in codes},
        classes=tuple(
            LabelClass(index=row.index, name=row.name, color=row.color, codes=codes_of[row.code])
            for row in sorted((row for row in rows if row.index is not None), key=lambda row: row.index or 0)
            if row.index is not None
        ),
        code_of_value={value: row.code for row in codes for value in row.values or (str(row.code),)},
    )


def _label(name: str | Path) -> str:
    return Path(name).stem if _is_file(name) else str(name)


def _is_file(name: str | Path) -> bool:
    return isinstance(name, Path) or name.endswith(".csv")


@cache
def _built_in(name: str) -> tuple[ClassRow, ...]:
    return tuple(_read_classes(_TABLES.joinpath(f"{name}.csv")))


def _class_rows(name: str | Path) -> tuple[ClassRow, ...]:
    if _is_file(name):
        return tuple(_read_classes(Path(name)))
    if name not in NOMENCLATURES:
        raise LabelError(
            f"there is no nomenclature {name!r}; known are {', '.join(sorted(NOMENCLATURES))}, or the path of a table that ends in .csv",
            nomenclature=name,
        )
    return _built_in(str(name))


def _read_classes(path: Traversable) -> Iterator[ClassRow]:
    """The rows of a class table, checked."""
    seen: dict[str, dict[object, int]] = {"code": {}, "index": {}, "name": {}, "value": {}}

    def once(column: str, value: object, line: int) -> None:
        if value in seen[column]:
            raise _fault(path, line, f"{column} {value!r} stands in line {seen[column][value]} already; each may stand once")
        seen[column][value] = line

    for line, row in _read_csv(path, ("code", "index", "name", "color")):
        code = _whole(path, line, "code", row["code"])
        if code == NO_POLYGON:
            raise _fault(path, line, f"code {NO_POLYGON} stands for ground without any label; choose another")
        index = _whole(path, line, "index", row["index"]) if row["index"] else None
        name, color = row["name"], row["color"].lower()
        if not name:
            raise _fault(path, line, "the name is empty; name the class")
        if not _COLOR.fullmatch(color):
            raise _fault(path, line, f"the color is {row['color']!r}; expected # and six hexadecimal digits, such as #e6004d")
        values = tuple(value.strip() for value in (row.get("values") or "").split("|") if value.strip())
        once("code", code, line)
        once("name", name, line)
        if index is not None:
            once("index", index, line)
        for value in values or (str(code),):
            once("value", value, line)
        yield ClassRow(code, index, name, color, values)
    indices = sorted(int(str(index)) for index in seen["index"])
    if not indices or indices != list(range(len(indices))):
        raise LabelError(
            f"{path.name}: the column index counts {', '.join(map(str, indices)) or 'nothing'}; expected 0, 1, 2 and so on without a gap",
            path=str(path),
        )


def _conversion(
    origin: str | Path, codes: tuple[ClassRow, ...], label: str, targets: tuple[ClassRow, ...], given: str | Path | None
) -> dict[int, int]:
    """Code to code; codes without a class are absent."""
    path: Traversable = Path(given) if given is not None else _TABLES.joinpath(f"{_label(origin)}_to_{label}.csv")
    if given is None and not path.is_file():
        known = sorted(
            each.name.removesuffix(".csv").split("_to_")[1] for each in _TABLES.iterdir() if each.name.startswith(f"{origin}_to_")
        )
        raise LabelError(
            f"no table converts the codes of {_label(origin)} to {label}; known are {', '.join([*known, _label(origin)])}, "
            "or name a table with the columns from_code and to_code under labels.conversion",
            source=str(origin),
            nomenclature=label,
        )
    from_codes, to_codes = {row.code for row in codes}, {row.code for row in targets}
    found: dict[int, int | None] = {}
    for line, row in _read_csv(path, ("from_code", "to_code")):
        code = _whole(path, line, "from_code", row["from_code"])
        target = _whole(path, line, "to_code", row["to_code"]) if row["to_code"] else None
        if code in found:
            raise _fault(path, line, f"from_code {code} stands there twice; each may stand once")
        if code not in from_codes:
            raise _fault(path, line, f"from_code {code} is no code of {_label(origin)}")
        if target is not None and target not in to_codes:
            raise _fault(path, line, f"to_code {target} is no code of {label}; leave it empty where a code means no class")
        found[code] = target
    if missing := sorted(from_codes - set(found)):
        raise LabelError(
            f"{path.name} says nothing of the code{'s' if len(missing) > 1 else ''} {', '.join(map(str, missing[:5]))}"
            f"{' and more' if len(missing) > 5 else ''} of {_label(origin)}; add a row for each; an empty to_code means no class",
            path=str(path),
            codes=missing,
        )
    return {code: target for code, target in sorted(found.items()) if target is not None}


def _read_csv(path: Traversable, columns: tuple[str, ...]) -> Iterator[tuple[int, dict[str, str]]]:
    """Line number and cells, stripped, of each row."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise LabelError(f"the table {path} cannot be read: {reason}; name an existing CSV file", path=str(path)) from error
    reader = csv.DictReader(text.splitlines())
    if absent := [column for column in columns if column not in (reader.fieldnames or [])]:
        raise LabelError(
            f"{path.name} has no column {' and no column '.join(absent)}, only {', '.join(reader.fieldnames or []) or 'none at all'}; "
            f"expected {', '.join(columns)}",
            path=str(path),
        )
    for row in reader:
        if None in row or None in row.values():
            raise _fault(path, reader.line_num, "it has more or fewer cells than the first line; put quotes around a name with commas")
        yield reader.line_num, {key: value.strip() for key, value in row.items()}


def _whole(path: Traversable, line: int, column: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) <= _HIGHEST_CODE):
        raise _fault(path, line, f"the {column} is {text!r}; expected a whole number from 0 to {_HIGHEST_CODE}")
    return int(text)


def _fault(path: Traversable, line: int, finding: str) -> LabelError:
    return LabelError(f"{path.name}, line {line}: {finding}", path=str(path), line=line)

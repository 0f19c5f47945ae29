"""Where the patches of any table lie: by their ids, or by their footprints where an id is not one of ours.

Distinct footprints are places; a place seen on several dates is one place and many patches. A square along the
axes of its UTM zone is kept as corner and side, so that distances inside a zone follow exactly; any other outline
is kept as it is. Places also carry geocentric metres, where neither zones nor the 180th meridian nor the equator
is a border.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import geopandas as gpd
import numpy as np
import pandas as pd
import pyproj
import shapely

from rsdata.errors import CatalogError, SplitError
from rsdata.grid import PATCH_SIDE_M
from rsdata.records import FindingKind, PatchId
from rsdata.splits.positions import positions

SAME_PLACE_M = 10.0  # an id and a footprint further apart than one pixel do not mean the same ground

_SOUTH_FALSE_NORTHING_M = 10_000_000
_EQUATOR_M, _POLE_M = 6_378_137.0, 6_356_752.314245  # axes of WGS 84
_SQUARE_TOLERANCE_M = 0.05
_SIDE_TOLERANCE = 0.05  # of a footprint against its patch; degrees are turned into metres on a sphere
_METRES_PER_DEGREE = 111_320.0
_CELL_LENGTH = len("_26_57")  # how every patch id ends


@dataclass(frozen=True)
class Places:
    """Distinct footprints, in an order that does not depend on the table's."""

    zone: np.ndarray  # (n,) int, 1 to 60; 0 for an outline that is no square of a UTM grid
    x_m: np.ndarray  # (n,) float, upper-left corner in the zone's grid
    y_m: np.ndarray  # (n,) the same, counted from the equator in both hemispheres
    side_m: np.ndarray  # (n,)
    outline: np.ndarray  # (n,) shapely polygons in longitude and latitude where zone is 0, else None
    lon: np.ndarray = field(init=False)  # (n,) of the centre, degrees
    lat: np.ndarray = field(init=False)
    centre_xyz_m: np.ndarray = field(init=False)  # (n, 3) geocentric
    radius_m: np.ndarray = field(init=False)  # (n,) from the centre to the farthest corner

    def __post_init__(self) -> None:
        half_m = self.side_m / 2
        lon, lat = _lonlat(self.zone, self.x_m + half_m, self.y_m - half_m)
        radius_m = half_m * np.sqrt(2) / 0.9995  # UTM shrinks the ground to 0.9996 at most
        free = np.flatnonzero(self.zone == 0)
        if len(free):
            bounds = shapely.bounds(self.outline[free])
            lon[free], lat[free] = (bounds[:, 0] + bounds[:, 2]) / 2, (bounds[:, 1] + bounds[:, 3]) / 2
        centre = geocentric(lon, lat)
        if len(free):
            lonlat, which = shapely.get_coordinates(self.outline[free], return_index=True)
            away_m = np.linalg.norm(geocentric(lonlat[:, 0], lonlat[:, 1]) - centre[free][which], axis=1)
            radius_m[free] = 0
            np.maximum.at(radius_m, free[which], away_m + 0.01)
        for name, value in {"lon": lon, "lat": lat, "centre_xyz_m": centre, "radius_m": radius_m}.items():
            object.__setattr__(self, name, value)

    def __len__(self) -> int:
        return len(self.zone)

    def corners_xyz_m(self, which: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Outlines of some places in geocentric metres: closed rings one after the other, (m, 3), and whose each point is, (m,)."""
        square = np.flatnonzero(self.zone[which] != 0)
        free = np.flatnonzero(self.zone[which] == 0)
        one = which[square]
        right, down = np.array([0, 1, 1, 0, 0]), np.array([0, 0, 1, 1, 0])
        zone = np.repeat(self.zone[one], 5)
        side = self.side_m[one][:, None]
        lon, lat = _lonlat(zone, (self.x_m[one][:, None] + side * right).ravel(), (self.y_m[one][:, None] - side * down).ravel())
        owner = np.repeat(square, 5)
        if len(free):
            lonlat, index = shapely.get_coordinates(shapely.get_exterior_ring(self.outline[which[free]]), return_index=True)
            lon, lat, owner = np.r_[lon, lonlat[:, 0]], np.r_[lat, lonlat[:, 1]], np.r_[owner, free[index]]
            order = np.argsort(owner, kind="stable")
            lon, lat, owner = lon[order], lat[order], owner[order]
        return geocentric(lon, lat), owner


@dataclass(frozen=True)
class Misfits:
    """Rows whose own statements of where they lie do not agree."""

    kind: FindingKind
    rows: np.ndarray  # (k,)
    note: Callable[[int], str]  # what is wrong with a row


@dataclass
class Located:
    """The rows of a table, each with its footprint."""

    names: np.ndarray  # (n,) object, the patch ids, or "row 17"
    zone: np.ndarray  # (n,) as in Places
    x_m: np.ndarray
    y_m: np.ndarray
    side_m: np.ndarray
    outline: np.ndarray
    placed: np.ndarray  # (n,) bool; a footprint that cannot lie where it says is nowhere
    moment: np.ndarray | None  # (n,) object, start of the acquisition as text, where ids or a column tell
    misfits: list[Misfits]


def locate(table: pd.DataFrame, what: str = "the table") -> Located:
    """Find the footprint of every row, and the rows whose statements contradict each other.

    Args:
        table: ``patch_id``, or ``epsg``, ``ul_x_m``, ``ul_y_m`` (with ``side_m``, or 1200 m), or ``geometry``: polygons in
            the table's reference system, longitude and latitude where it has none, or the same as WKB. The position follows
            from the id where it is one of ours, else from the columns, else from the geometry.
        what: the table's name in messages.

    Raises: SplitError if the table has none of these, a footprint is missing or is no polygon; CatalogError or GridError
        if an id names no patch and there is no footprint to go by.
    """
    n = len(table)
    stated = _from_columns(table) if {"epsg", "ul_x_m", "ul_y_m"} <= set(table.columns) else None
    outlines = _outlines(table, what)
    ids = table["patch_id"].reset_index(drop=True) if "patch_id" in table else None
    if ids is None and stated is None and outlines is None:
        raise SplitError(
            f"{what} has no column `patch_id`, no `epsg`, `ul_x_m` and `ul_y_m`, and no `geometry`, only "
            f"{', '.join(map(str, table.columns))}; an audit must know where patches lie"
        )
    by_id = np.zeros(n, bool)
    if ids is not None:
        by_id = np.ones(n, bool) if stated is None and outlines is None else _is_ours(ids)
    names = np.array([f"row {row}" for row in range(n)], object) if ids is None else ids.to_numpy(object)
    found = Located(
        names=names,
        zone=np.zeros(n, np.int64),
        x_m=np.zeros(n),
        y_m=np.zeros(n),
        side_m=np.full(n, float(PATCH_SIDE_M)),
        outline=np.full(n, None, object),
        placed=np.ones(n, bool),
        moment=_moments(table, ids, by_id),
        misfits=[],
    )
    if ids is not None and by_id.any():
        where = positions(ids[by_id])
        epsg = where["epsg"].to_numpy()
        found.zone[by_id], found.x_m[by_id] = epsg % 100, where["ul_x_m"]
        found.y_m[by_id] = where["ul_y_m"].to_numpy() - np.where(epsg // 100 == 327, _SOUTH_FALSE_NORTHING_M, 0)
        col_minus_row = np.zeros(n, np.int64)
        col_minus_row[by_id] = where["col"].to_numpy() - where["row"].to_numpy()
        if {"col", "row"} <= set(table.columns):
            _compare_cells(found, table, where, by_id)
        if stated is not None:
            _compare_columns(found, stated, col_minus_row, by_id)
        if outlines is not None:
            _compare_outlines(found, outlines, col_minus_row, by_id)
    rest = ~by_id
    if rest.any():
        if stated is not None:
            for name in ("zone", "x_m", "y_m", "side_m"):
                getattr(found, name)[rest] = stated[name][rest]
            if outlines is not None:
                _compare_outlines(found, outlines, np.zeros(n, np.int64), rest)
        elif outlines is not None:
            _place_by_outline(found, outlines, rest)
    return found


def gather(*tables: Located) -> tuple[Places, list[np.ndarray]]:
    """The distinct footprints of one or more tables, and for each table the place of every row, -1 where it has none."""
    columns = {name: np.concatenate([getattr(each, name) for each in tables]) for name in ("zone", "x_m", "y_m", "side_m", "placed")}
    outline = np.concatenate([each.outline for each in tables])
    code = np.full(len(outline), -1, np.int64)
    free = np.flatnonzero((columns["zone"] == 0) & columns["placed"])
    if len(free):
        code[free] = pd.factorize(shapely.to_wkb(shapely.normalize(outline[free])), sort=True)[0]
    frame = pd.DataFrame({name: columns[name] for name in ("zone", "x_m", "y_m", "side_m")} | {"outline": code})
    place = np.full(len(outline), -1, np.int64)
    placed = np.flatnonzero(columns["placed"])
    place[placed] = frame.iloc[placed].groupby(["zone", "x_m", "y_m", "side_m", "outline"], sort=True).ngroup()
    first = placed[np.unique(place[placed], return_index=True)[1]]
    zone, x_m, y_m, side_m = (columns[name][first] for name in ("zone", "x_m", "y_m", "side_m"))
    places = Places(zone=zone, x_m=x_m, y_m=y_m, side_m=side_m, outline=outline[first])
    return places, np.split(place, np.cumsum([len(each.zone) for each in tables])[:-1])


def geocentric(lon: np.ndarray, lat: np.ndarray) -> np.ndarray:
    """Points on the ellipsoid WGS 84 as geocentric metres, (n, 3)."""
    lon, lat = np.radians(lon), np.radians(lat)
    flat = (_POLE_M / _EQUATOR_M) ** 2
    across = _EQUATOR_M / np.sqrt(np.cos(lat) ** 2 + flat * np.sin(lat) ** 2)
    return np.stack([across * np.cos(lat) * np.cos(lon), across * np.cos(lat) * np.sin(lon), flat * across * np.sin(lat)], axis=-1)


def _lonlat(zone: np.ndarray, x_m: np.ndarray, y_m: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points of UTM grids, ``y_m`` from the equator, in degrees; those of zone 0 are 0."""
    lon, lat = np.zeros(len(zone)), np.zeros(len(zone))
    for each in np.unique(zone[zone != 0]):
        here = zone == each
        lon[here], lat[here] = pyproj.Transformer.from_crs(32600 + int(each), 4326, always_xy=True).transform(x_m[here], y_m[here])
    return lon, lat


# --- what a table states ----------------------------------------------------------------------------------


def _is_ours(ids: pd.Series) -> np.ndarray:
    """Which ids are patch ids, (n,) bool; every distinct scene and cell is looked at once."""
    texts = ids.fillna("").astype("str")
    ours = np.ones(len(texts), bool)
    for part, whole in (
        (texts.str.slice(stop=-_CELL_LENGTH), "{}_00_00"),
        (texts.str.slice(start=-_CELL_LENGTH), "S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP{}"),
    ):
        codes, distinct = pd.factorize(part)
        ours &= np.array([_parses(whole.format(text)) for text in distinct], bool)[codes]
    return ours


def _parses(text: str) -> bool:
    try:
        PatchId.parse(text)
    except CatalogError:
        return False
    return True


def _moments(table: pd.DataFrame, ids: pd.Series | None, by_id: np.ndarray) -> np.ndarray | None:
    moment = np.full(len(table), None, object)
    if "datetime" in table:
        known = table["datetime"].notna().to_numpy()
        moment[known] = pd.to_datetime(table["datetime"][known], utc=True).dt.strftime("%Y%m%dT%H%M%S").to_numpy(object)
    if ids is not None and by_id.any():
        codes, scenes = pd.factorize(ids[by_id].astype("str").str.slice(stop=-_CELL_LENGTH))
        moment[by_id] = np.array([scene.split("_")[2] for scene in scenes], object)[codes]
    return None if (moment == None).all() else moment  # noqa: E711


def _from_columns(table: pd.DataFrame) -> dict[str, np.ndarray]:
    if table[["epsg", "ul_x_m", "ul_y_m"]].isna().to_numpy().any():
        raise SplitError("some rows have no `epsg`, `ul_x_m` or `ul_y_m`; fill them in or leave these columns out")
    epsg = table["epsg"].to_numpy(np.int64)
    strange = sorted(set(epsg[(epsg // 100 != 326) & (epsg // 100 != 327)].tolist()))
    if strange:
        raise SplitError(f"`epsg` holds {strange[0]}; expected UTM zones of WGS 84, EPSG:32601 to 32660 and 32701 to 32760", epsg=strange)
    south = np.where(epsg // 100 == 327, _SOUTH_FALSE_NORTHING_M, 0)
    side_m = table["side_m"].to_numpy(float) if "side_m" in table else np.full(len(table), float(PATCH_SIDE_M))
    return {"zone": epsg % 100, "x_m": table["ul_x_m"].to_numpy(float), "y_m": table["ul_y_m"].to_numpy(float) - south, "side_m": side_m}


def _outlines(table: pd.DataFrame, what: str) -> np.ndarray | None:
    """Footprints in longitude and latitude, (n,) polygons; None without such a column."""
    if isinstance(table, gpd.GeoDataFrame):
        shapes = table.geometry if table.crs is None else table.geometry.to_crs(4326)
        outlines = np.asarray(shapes.array, dtype=object)
    elif "geometry" in table:
        try:
            outlines = shapely.from_wkb(table["geometry"].to_numpy(object))
        except (shapely.errors.GEOSException, TypeError) as error:
            raise SplitError(f"`geometry` of {what} holds no WKB: {error}; expected polygons in longitude and latitude") from error
    else:
        return None
    wrong = (shapely.get_type_id(outlines) != shapely.GeometryType.POLYGON) | shapely.is_empty(outlines)
    if wrong.any():
        raise SplitError(
            f"{int(wrong.sum()):,} rows of {what} have no polygon as footprint, the first is row {int(np.flatnonzero(wrong)[0])}; "
            "give each patch its outline"
        )
    return outlines


# --- statements held against each other -------------------------------------------------------------------


def _compare_cells(found: Located, table: pd.DataFrame, where: pd.DataFrame, by_id: np.ndarray) -> None:
    """The columns ``col`` and ``row`` against the id."""
    rows = np.flatnonzero(by_id)
    col, row = (table[name].to_numpy(float, na_value=np.nan)[rows] for name in ("col", "row"))
    own_col, own_row = where["col"].to_numpy(), where["row"].to_numpy()
    wrong = (col != own_col) | (row != own_row)
    swapped = wrong & (col == own_row) & (row == own_col)
    said = pd.DataFrame({"col": col, "row": row, "own_col": own_col, "own_row": own_row}, index=rows)

    def note(each: int) -> str:
        one = said.loc[each]
        return f"the columns say col {one.col:g} and row {one.row:g}, the id says col {one.own_col:g} and row {one.own_row:g}"

    found.misfits += [Misfits("flipped", rows[swapped], note), Misfits("mismatch", rows[wrong & ~swapped], note)]


def _compare_columns(found: Located, stated: dict[str, np.ndarray], col_minus_row: np.ndarray, by_id: np.ndarray) -> None:
    """The corner that the columns state against that of the id."""
    apart_m = np.hypot(found.x_m - stated["x_m"], found.y_m - stated["y_m"])
    same_zone, same_side = found.zone == stated["zone"], found.side_m == stated["side_m"]
    wrong = by_id & ((apart_m > SAME_PLACE_M) | ~same_zone | ~same_side)
    step_m = col_minus_row * PATCH_SIDE_M  # from the corner of the cell to that of the cell with col and row swapped
    cells = wrong & same_zone & (np.hypot(found.x_m - step_m - stated["x_m"], found.y_m - step_m - stated["y_m"]) <= SAME_PLACE_M)
    axes = wrong & same_zone & ~cells & (np.hypot(found.x_m - stated["y_m"], found.y_m - stated["x_m"]) <= SAME_PLACE_M)

    def note(row: int) -> str:
        if not same_zone[row]:
            return f"`epsg` is of UTM zone {stated['zone'][row]}, the id lies in zone {found.zone[row]}"
        if apart_m[row] > SAME_PLACE_M:
            return f"`ul_x_m`, `ul_y_m` lie {_far(apart_m[row])} from where the id says"
        return f"`side_m` is {stated['side_m'][row]:g} m, a patch of this id has {found.side_m[row]:g} m"

    found.misfits += [
        Misfits("flipped", np.flatnonzero(cells), lambda row: "col and row are swapped between the id and `ul_x_m`, `ul_y_m`"),
        Misfits("flipped", np.flatnonzero(axes), lambda row: "`ul_x_m` and `ul_y_m` are swapped"),
        Misfits("mismatch", np.flatnonzero(wrong & ~cells & ~axes), note),
    ]


def _compare_outlines(found: Located, outlines: np.ndarray, col_minus_row: np.ndarray, rows_mask: np.ndarray) -> None:
    """The footprint against the square that the id or the columns place."""
    rows = np.flatnonzero(rows_mask)
    zone, x_m, y_m, side_m = (each[rows] for each in (found.zone, found.x_m, found.y_m, found.side_m))
    lon, lat = _lonlat(zone, x_m + side_m / 2, y_m - side_m / 2)
    bounds = shapely.bounds(outlines[rows])
    drawn_lon, drawn_lat = (bounds[:, 0] + bounds[:, 2]) / 2, (bounds[:, 1] + bounds[:, 3]) / 2
    apart_m = _apart_m(lon, lat, drawn_lon, drawn_lat)
    with np.errstate(invalid="ignore"):
        drawn_side_m = np.sqrt(shapely.area(outlines[rows]) * np.clip(np.cos(np.radians(drawn_lat)), 0, None)) * _METRES_PER_DEGREE
    wrong = np.flatnonzero(~(apart_m <= SAME_PLACE_M) | (np.abs(drawn_side_m / side_m - 1) > _SIDE_TOLERANCE))
    axes = _apart_m(lon[wrong], lat[wrong], drawn_lat[wrong], drawn_lon[wrong]) <= SAME_PLACE_M
    step_m = col_minus_row[rows[wrong]] * PATCH_SIDE_M
    swapped = _lonlat(zone[wrong], x_m[wrong] - step_m + side_m[wrong] / 2, y_m[wrong] - step_m - side_m[wrong] / 2)
    cells = ~axes & (step_m != 0) & (_apart_m(*swapped, drawn_lon[wrong], drawn_lat[wrong]) <= SAME_PLACE_M)
    said = pd.DataFrame({"apart_m": apart_m[wrong], "drawn_side_m": drawn_side_m[wrong], "side_m": side_m[wrong]}, index=rows[wrong])

    def note(row: int) -> str:
        one = said.loc[row]
        if one.apart_m <= SAME_PLACE_M:
            return f"the footprint is {one.drawn_side_m:,.0f} m wide, the patch {one.side_m:,.0f} m"
        return f"the footprint lies {_far(one.apart_m)} from where the patch is said to be"

    found.misfits += [
        Misfits("flipped", rows[wrong][axes], lambda row: "latitude and longitude are swapped in the footprint"),
        Misfits("flipped", rows[wrong][cells], lambda row: "col and row are swapped between the id and the footprint"),
        Misfits("mismatch", rows[wrong][~axes & ~cells], note),
    ]


def _place_by_outline(found: Located, outlines: np.ndarray, rows_mask: np.ndarray) -> None:
    """Place rows by their footprints alone; one that is a square only with its axes swapped is flipped and placed nowhere."""
    rows = np.flatnonzero(rows_mask)
    shapes = outlines[rows]
    zone, x_m, y_m, side_m = _as_squares(shapes)
    bounds = shapely.bounds(shapes)
    outside = ~((np.abs(bounds[:, [1, 3]]) <= 90).all(axis=1) & (np.abs(bounds[:, [0, 2]]) <= 360).all(axis=1))
    doubtful = np.flatnonzero(zone == 0)
    swapped = shapely.transform(shapes[doubtful], lambda lonlat: lonlat[:, ::-1])
    flipped = doubtful[(_as_squares(swapped)[0] != 0)]
    nowhere = np.union1d(flipped, np.flatnonzero(outside))
    found.misfits += [
        Misfits("flipped", rows[flipped], lambda row: "latitude and longitude are swapped in the footprint"),
        Misfits("mismatch", rows[np.setdiff1d(nowhere, flipped)], lambda row: "the footprint lies at no place on Earth"),
    ]
    found.placed[rows[nowhere]] = False
    found.zone[rows], found.x_m[rows], found.y_m[rows], found.side_m[rows] = zone, x_m, y_m, side_m
    free = np.flatnonzero(zone == 0)
    found.outline[rows[free]] = shapes[free]


def _as_squares(shapes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Zone, corner and side of polygons that are squares along the axes of a UTM zone; zone is 0 for any other."""
    zone, x_m, y_m, side_m = np.zeros(len(shapes), np.int64), np.zeros(len(shapes)), np.zeros(len(shapes)), np.zeros(len(shapes))
    four = np.flatnonzero((shapely.get_num_coordinates(shapes) == 5) & (shapely.get_num_interior_rings(shapes) == 0))
    if not len(four):
        return zone, x_m, y_m, side_m
    corner = shapely.get_coordinates(shapes[four]).reshape(-1, 5, 2)[:, :4]
    centre = (corner.min(axis=1) + corner.max(axis=1)) / 2
    on_earth = (np.abs(corner[:, :, 1]) <= 84).all(axis=1) & (np.abs(corner[:, :, 0]) <= 360).all(axis=1)
    four, corner, centre = four[on_earth], corner[on_earth], centre[on_earth]
    home = (np.floor((centre[:, 0] + 180) / 6).astype(np.int64)) % 60
    for away in (0, 1, -1):  # a tile's grid reaches into the neighbouring zones
        guess = (home + away) % 60 + 1
        for each in np.unique(guess):
            here = np.flatnonzero((guess == each) & (zone[four] == 0))
            if not len(here):
                continue
            to_utm = pyproj.Transformer.from_crs(4326, 32600 + int(each), always_xy=True)
            x, y = to_utm.transform(corner[here, :, 0].ravel(), corner[here, :, 1].ravel())
            xy = np.stack([x, y], axis=-1).reshape(-1, 4, 2)
            low, high = xy.min(axis=1), xy.max(axis=1)
            off_m = np.minimum(np.abs(xy - low[:, None]), np.abs(xy - high[:, None])).max(axis=(1, 2))
            width = high - low
            square = (off_m < _SQUARE_TOLERANCE_M) & (np.abs(width[:, 0] - width[:, 1]) < 2 * _SQUARE_TOLERANCE_M) & (width[:, 0] > 1)
            chosen = four[here[square]]
            zone[chosen] = each
            # Sides and corners are whole multiples of something; what degrees add to them is below a millimetre.
            x_m[chosen], y_m[chosen] = np.round(low[square, 0], 2), np.round(high[square, 1], 2)
            side_m[chosen] = np.round(width[square].mean(axis=1), 1)
    return zone, x_m, y_m, side_m


def _apart_m(lon: np.ndarray, lat: np.ndarray, other_lon: np.ndarray, other_lat: np.ndarray) -> np.ndarray:
    """Distance of points in degrees, good where they are near; a world apart they are only far."""
    across = (np.asarray(lon) - other_lon + 180) % 360 - 180
    return np.hypot(across * np.cos(np.radians(lat)), np.asarray(lat) - other_lat) * _METRES_PER_DEGREE


def _far(metres: float) -> str:
    return f"{metres:,.0f} m" if metres < 10_000 else f"{metres / 1000:,.0f} km"

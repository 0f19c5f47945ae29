"""Which products there are: a search in a STAC catalogue, by tile, dates, cloud cover and product type.

The default is the public catalogue of the Copernicus Data Space; any STAC API with the same collections will do.
What a catalogue answers is foreign text: every filter is applied again here, and an item that could not be
fetched safely is named and left out.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pyproj
import shapely
import shapely.affinity
import shapely.geometry

from rsdata.errors import DownloadError, RsdataError
from rsdata.grid import TILE_SIDE_M, Tile
from rsdata.records import ProductType, RemoteFile, RemoteProduct, parse_start

CDSE_STAC = "https://stac.dataspace.copernicus.eu/v1"
# Product type to the collection that holds it. Source: documentation.dataspace.copernicus.eu, STAC product catalogue.
COLLECTIONS: dict[ProductType, str] = {"S2MSI2A": "sentinel-2-l2a", "S2MSI1C": "sentinel-2-l1c", "S1GRD": "sentinel-1-grd"}
MAX_ITEMS = 10_000  # a tile has some 1,500 acquisitions in ten years; more means that the catalogue ignores the filters
_PAGE_ITEMS = 100
_TIMEOUT_S = 60

# Names become file names, so nothing but letters, digits and underscores passes.
_NAMES: dict[ProductType, re.Pattern[str]] = {
    "S2MSI2A": re.compile(r"S2[A-D]_MSIL2A_(?P<start>\d{8}T\d{6})_N\d{4}_R\d{3}_T(?P<tile>\w{5})_(?P<made>\d{8}T\d{6})", re.ASCII),
    "S2MSI1C": re.compile(r"S2[A-D]_MSIL1C_(?P<start>\d{8}T\d{6})_N\d{4}_R\d{3}_T(?P<tile>\w{5})_(?P<made>\d{8}T\d{6})", re.ASCII),
    "S1GRD": re.compile(r"S1[A-D]_IW_GRDH_1SDV_(?P<start>\d{8}T\d{6})_\d{8}T\d{6}_\d{6}_[0-9A-F]{6}_[0-9A-F]{4}(?:_COG)?", re.ASCII),
}


@dataclass(frozen=True)
class ProductQuery:
    """What is looked for."""

    tile: Tile
    start: datetime  # UTC, included
    end: datetime  # UTC, excluded
    product_type: ProductType = "S2MSI2A"
    max_cloud: float | None = None  # percent; for Sentinel-2 only
    limit: int | None = None  # the first so many, by time
    every_baseline: bool = False  # else, of several processings of one acquisition, only the newest


@dataclass(frozen=True)
class SearchResult:
    """What a catalogue offers, by time and name."""

    products: list[RemoteProduct]
    refused: dict[str, str] = field(default_factory=dict)  # item to the reason why it cannot be fetched
    older: list[str] = field(default_factory=list)  # products left out because a newer processing is there


def parse_period(text: str) -> tuple[datetime, datetime]:
    """Read ``2023-06-01/2023-06-30`` or one day as a span in UTC, both days included: start, and end excluded.

    Raises: DownloadError if it is neither, or ends before it starts.
    """
    first, _, last = text.partition("/")
    try:
        start, end = (datetime.strptime(f"{day}+0000", "%Y-%m-%d%z") for day in (first, last or first))
    except ValueError:
        raise DownloadError(f"{text!r} is no span of days; expected one such as 2023-06-01/2023-06-30, or one day", date=text) from None
    if end < start:
        raise DownloadError(f"the span {text} ends before it starts; give the earlier day first", date=text)
    return start, end + timedelta(days=1)


def search_catalogue(query: ProductQuery, catalogue: str = CDSE_STAC) -> SearchResult:
    """Ask a STAC API for products, page by page.

    Raises: DownloadError if the catalogue cannot be reached, does not answer as a STAC API, or offers more than
        10,000 items; RsdataError if pystac-client is not installed.
    """
    try:
        import requests
        from pystac_client import Client
        from pystac_client.exceptions import APIError
    except ImportError:
        raise missing_extra("pystac-client") from None

    host = urlsplit(catalogue).netloc.rpartition("@")[2]
    try:
        client = Client.open(catalogue, timeout=_TIMEOUT_S)
        asked: dict[str, Any] = {
            "collections": [COLLECTIONS[query.product_type]],
            "datetime": f"{_stamp(query.start)}/{_stamp(query.end - timedelta(milliseconds=1))}",
            "intersects": tile_outline(query.tile),
            "limit": _PAGE_ITEMS,
            "max_items": MAX_ITEMS + 1,
        }
        if client.conforms_to("FILTER") and (conditions := _conditions(query)):
            asked |= {"filter": {"op": "and", "args": conditions}, "filter_lang": "cql2-json"}
        items = list(client.search(method="POST", **asked).items_as_dicts())
    except (APIError, requests.RequestException, ValueError, KeyError, TypeError) as error:
        status = getattr(error, "status_code", None)
        found = f"answers {status}" if status else f"cannot be read ({type(error).__name__})"
        raise DownloadError(
            f"the catalogue at {host} {found}; look whether it is in service and speaks STAC, or name another with --catalogue",
            catalogue=host,
        ) from None
    if len(items) > MAX_ITEMS:
        raise DownloadError(f"the catalogue at {host} offers more than {MAX_ITEMS:,} items; ask for fewer days", catalogue=host)
    return choose(items, query)


def choose(items: Iterable[dict[str, Any]], query: ProductQuery) -> SearchResult:
    """Read STAC items and keep what the query asks for, each product once, in order of time and name."""
    found: dict[str, RemoteProduct] = {}
    refused: dict[str, str] = {}
    for item in items:
        name = str(item.get("id", ""))[:200]
        try:
            product = read_item(item, query.product_type)
        except DownloadError as error:
            if not _another_kind(name, query.product_type):
                refused[name] = str(error)
            continue
        if _fits(product, query):
            found[product.product] = product
    products = sorted(found.values(), key=lambda each: (each.datetime, each.product))
    older: list[str] = []
    if not query.every_baseline:
        newest: dict[str, RemoteProduct] = {}
        for product in products:
            key = _acquisition(product)
            if key in newest:
                earlier, later = sorted((newest[key], product), key=_made)
                older.append(earlier.product)
                newest[key] = later
            else:
                newest[key] = product
        products = list(newest.values())
    return SearchResult(products[: query.limit], refused, sorted(older))


def read_item(item: dict[str, Any], product_type: ProductType) -> RemoteProduct:
    """Read one STAC item of the Copernicus Data Space.

    The whole product is the asset ``Product``: a zip over https with ``file:size`` and ``file:checksum``. The other
    assets are files of the product's folder in the object store; the folder follows from any of them.

    Raises: DownloadError if the item's name is not that of such a product, or nothing in it can be fetched.
    """
    identity = str(item.get("id", ""))
    name = identity.removesuffix(".SAFE")
    match = _NAMES[product_type].fullmatch(name)
    if match is None:
        raise DownloadError(
            f"the catalogue lists {identity[:120]!r}, which is not the name of a product of type {product_type}", item=identity
        )
    properties, assets = item.get("properties"), item.get("assets")
    if not isinstance(properties, dict) or not isinstance(assets, dict):
        raise DownloadError(f"the catalogue's item {name} has no properties or no assets", item=name)
    archive, folder, files = None, None, []
    for key, asset in sorted(assets.items()):
        if not isinstance(asset, dict):
            continue
        hrefs = _hrefs(asset)
        whole = key.lower() == "product"
        if whole and archive is None:
            href = next((href for href in hrefs if urlsplit(href).scheme in ("https", "http")), None)
            archive = RemoteFile(path=f"{name}.zip", href=href, **_promises(asset)) if href else None
        for href in hrefs:
            if not href.startswith("s3://"):
                continue
            before, marker, inside = href.partition(f"/{name}.SAFE")
            if not marker or (inside and not inside.startswith("/")):
                continue
            folder = before + marker if folder in (None, before + marker) else folder
            if inside.strip("/") and before + marker == folder:
                files.append(RemoteFile(path=inside.strip("/"), href=href, **_promises(asset)))
    if archive is None and folder is None:
        raise DownloadError(
            f"the catalogue's item {name} names neither a zip (asset Product) nor a folder of objects; it may be offline, order it first",
            item=name,
        )
    cloud = properties.get("eo:cloud_cover")
    baseline = properties.get("processing:version")
    return RemoteProduct(
        product=name,
        product_type=product_type,
        tile_id=match.groupdict().get("tile"),
        datetime=_time(properties.get("datetime")) or parse_start(match["start"]),
        cloud_cover=float(cloud) if isinstance(cloud, int | float) else None,
        baseline=str(baseline) if baseline is not None else None,
        archive=archive,
        folder=folder,
        files=files,
    )


def tile_outline(tile: Tile) -> dict[str, Any]:
    """Outline of a tile in longitude and latitude, a GeoJSON polygon or, across the 180th meridian, two.

    Each side is drawn with eleven points, as a side of 110 km strays from its chord by up to 200 m.
    """
    along = np.linspace(0, TILE_SIDE_M, 11)[:-1]
    x = tile.ul_x_m + np.concatenate([along, np.full(10, TILE_SIDE_M), TILE_SIDE_M - along, np.zeros(10)])
    y = tile.ul_y_m - np.concatenate([np.zeros(10), along, np.full(10, TILE_SIDE_M), TILE_SIDE_M - along])
    lon, lat = pyproj.Transformer.from_crs(tile.epsg, 4326, always_xy=True).transform(x, y)
    lon, lat = np.asarray(lon), np.asarray(lat)
    torn = np.ptp(lon) > 180
    outline = shapely.Polygon(np.column_stack([np.where(torn & (lon < 0), lon + 360, lon), lat]).round(6)).reverse()
    if not torn:
        return dict(shapely.geometry.mapping(outline))
    west = outline.intersection(shapely.box(0, -90, 180, 90))
    east = shapely.affinity.translate(outline.intersection(shapely.box(180, -90, 540, 90)), xoff=-360)
    return dict(shapely.geometry.mapping(shapely.union(west, east)))


def missing_extra(package: str) -> RsdataError:
    """What to say where an optional package is not installed."""
    return RsdataError(f"{package} is not installed; downloads need it, so run: pip install 'rsdata[download]'", package=package)


def _conditions(query: ProductQuery) -> list[dict[str, Any]]:
    """The query's filters in CQL2; Sentinel-1 products belong to no tile and know no clouds."""
    if query.product_type == "S1GRD":
        return []
    conditions: list[dict[str, Any]] = [{"op": "=", "args": [{"property": "grid:code"}, f"MGRS-{query.tile.name}"]}]
    if query.max_cloud is not None:
        conditions.append({"op": "<=", "args": [{"property": "eo:cloud_cover"}, query.max_cloud]})
    return conditions


def _fits(product: RemoteProduct, query: ProductQuery) -> bool:
    if not query.start <= product.datetime < query.end:
        return False
    if product.product_type == "S1GRD":
        return True
    if product.tile_id != query.tile.name:
        return False
    return query.max_cloud is None or (product.cloud_cover is not None and product.cloud_cover <= query.max_cloud)


def _another_kind(name: str, product_type: ProductType) -> bool:
    """Whether this is a sound Sentinel-1 product that rsdata has no use for: another mode or polarisation, or SLC."""
    return product_type == "S1GRD" and re.fullmatch(r"S1[A-D]_(IW|EW|SM|S[1-6]|WV)_\w+(\.SAFE)?", name, re.ASCII) is not None


def _acquisition(product: RemoteProduct) -> str:
    """What all processings of one acquisition share: the name without baseline, processing time and product id."""
    if product.product_type == "S1GRD":
        return "_".join(product.product.split("_")[:8])
    mission, level, start, _, orbit, tile, _ = product.product.split("_")
    return "_".join((mission, level, start, orbit, tile))


def _made(product: RemoteProduct) -> tuple[str, ...]:
    """Sorts processings of one acquisition by baseline, then processing time; Sentinel-1 by name, the plain one last."""
    if product.product_type == "S1GRD":
        return (str(not product.product.endswith("_COG")), product.product)
    parts = product.product.split("_")
    return (parts[3], parts[6])


def _hrefs(asset: dict[str, Any]) -> list[str]:
    """Every address of an asset: its own, then the alternates, by name."""
    alternates = asset.get("alternate")
    others = (
        [alternates[key].get("href") for key in sorted(alternates) if isinstance(alternates[key], dict)]
        if isinstance(alternates, dict)
        else []
    )
    hrefs = [str(href) for href in (asset.get("href"), *others) if isinstance(href, str)]
    return [f"s3://{href[1:]}" if href.startswith("/eodata/") else href for href in hrefs]


def _promises(asset: dict[str, Any]) -> dict[str, Any]:
    """Size and checksum of an asset, where it has them."""
    size, checksum = asset.get("file:size"), asset.get("file:checksum")
    return {
        "bytes": size if isinstance(size, int) and size > 0 else None,
        "checksum": checksum.lower() if isinstance(checksum, str) and re.fullmatch(r"[0-9a-fA-F]{32,200}", checksum) else None,
    }


def _time(text: object) -> datetime | None:
    try:
        return datetime.fromisoformat(str(text)).astimezone(UTC)
    except ValueError:
        return None


def _stamp(time: datetime) -> str:
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"

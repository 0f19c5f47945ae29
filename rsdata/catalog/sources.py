"""What the sources of a dataset ask to be said of them: provider, licence and attribution, in this one place.

The strings are those the providers ask for, with the years filled in that the dataset holds. Which sources there are
follows from the recipe and the patch table, so a card cannot forget one.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pandas as pd
from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

from rsdata.recipe import Recipe
from rsdata.records import Manifest
from rsdata.sensors import SENSORS

COPERNICUS_TERMS = "https://sentinels.copernicus.eu/documents/247904/690755/Sentinel_Data_Legal_Notice"
_ESA = "European Union, ESA (Copernicus)"


@dataclass(frozen=True)
class DataSource:
    """Somebody else's data that a dataset was made from."""

    name: str
    provider: str
    url: str
    licence: str
    licence_url: str | None
    attribution: str  # as the provider asks for it


def edition_of(names: Iterable[str]) -> str | None:
    """The edition of a land cover map, from the names of its file, layer or attribute: CLC2018, WorldCover v200.

    CORINE is told by ``CLC2018`` or ``U2018`` in a name, or by the attribute ``Code_18``; its release by ``V2020_20u1``.
    """
    text = " ".join(names)
    if found := re.search(r"WorldCover_\d+m_(20\d\d)_(v\d{3})", text):
        return f"WorldCover {found[2]} ({found[1]})"
    year = re.search(r"(?:CLC|U)_?(20\d\d|1990)", text, re.IGNORECASE) or re.search(r"\bcode_(\d\d)\b", text, re.IGNORECASE)
    if year is None:
        return None
    release = re.search(r"V(20\d\d_\d\du\d)", text, re.IGNORECASE)
    digits = year[1] if len(year[1]) == 4 else f"{19 if year[1] == '90' else 20}{year[1]}"
    return f"CLC{digits}{f' V{release[1]}' if release else ''}"


def data_sources(recipe: Recipe, patches: pd.DataFrame, dataset: Manifest) -> list[DataSource]:
    """The sources of a dataset, imagery first.

    Args: patches: the kept rows of the patch table; their dates give the years.
    """
    if recipe.synthetic is not None:
        said = "Synthetic scenes made by rsdata; no satellite data."
        return [DataSource("Synthetic scenes", "rsdata", "https://pypi.org/project/rsdata/", "CC0-1.0", None, said)]
    years = _years(patches["datetime"])
    found = [_copernicus("Sentinel-2 MSI Level-2A", "https://sentiwiki.copernicus.eu/web/s2-mission", years)]
    if patches["s1_product"].notna().any():
        found.append(_copernicus("Sentinel-1 SAR GRD", "https://sentiwiki.copernicus.eu/web/s1-mission", years))
    if recipe.scenes is not None and any("copernicus_dsm" in each.lower() for each in recipe.scenes.dem):
        found.append(_COPERNICUS_DEM)
    edition = next((item.version for item in dataset.inputs if item.kind == "labels" and item.version), None)
    found += _land_cover(recipe.labels.source, edition)
    if recipe.captions.climate is not None and recipe.captions.climate.classes is None:
        found.append(_KOEPPEN)
    return found


def attributions(recipe: Recipe, sources: Iterable[DataSource]) -> list[str]:
    """What must be said, as sentences: of each source, and what the recipe adds."""
    said = [*(source.attribution for source in sources), *recipe.attribution]
    return list(dict.fromkeys(f"{each.strip().rstrip('.')}." for each in said if each.strip()))


def licence_said(recipe: Recipe) -> str:
    """One sentence on the licence of a dataset."""
    return f"Licence of this dataset: {' '.join(recipe.licence.split()) or 'not stated in its recipe; the terms of its sources hold'}."


def attribution_text(recipe: Recipe, patches: pd.DataFrame, dataset: Manifest) -> str:
    """Licence and attributions as a text of their own, a line each, for forms that have no place for them.

    Args: patches: the kept rows of the patch table.
    """
    said = attributions(recipe, data_sources(recipe, patches, dataset))
    return "\n".join([" ".join((recipe.title or recipe.name).split()), licence_said(recipe), *said]) + "\n"


def _years(times: pd.Series) -> str:
    years = sorted({time.year for time in pd.to_datetime(times, utc=True)})
    return "" if not years else str(years[0]) if len(years) == 1 else f"{years[0]}-{years[-1]}"


def _copernicus(name: str, url: str, years: str) -> DataSource:
    # Source of the wording: Legal notice on the use of Copernicus Sentinel Data and Service Information.
    said = f"Contains modified Copernicus Sentinel data {years}".strip()
    return DataSource(name, _ESA, url, "Copernicus Sentinel data terms: free, full and open", COPERNICUS_TERMS, said)


def _land_cover(source: str, edition: str | None) -> list[DataSource]:
    if source.startswith("corine"):
        raster = source == "corine-raster"
        doi = "10.2909/960998c1-1870-4e82-8051-6485205ebbac" if raster else "10.2909/71c95a07-e296-44fc-b22b-415f42acfdf0"
        cited = f"; https://doi.org/{doi}" if edition is not None and edition.startswith("CLC2018") else ""
        return [
            DataSource(
                f"CORINE Land Cover{f' ({edition})' if edition else ''}",
                "European Environment Agency (Copernicus Land Monitoring Service)",
                "https://land.copernicus.eu/en/products/corine-land-cover",
                "Copernicus Land Monitoring Service terms: free, full and open",
                "https://land.copernicus.eu/en/data-policy",
                f"Generated using European Union's Copernicus Land Monitoring Service information{cited}",
            )
        ]
    if source == "worldcover":
        year = re.search(r"20\d\d", edition or "")
        of = f" {year[0]}" if year else ""
        return [
            DataSource(
                f"ESA {edition or 'WorldCover'}",
                "ESA WorldCover consortium",
                "https://esa-worldcover.org",
                "CC-BY-4.0",
                "https://creativecommons.org/licenses/by/4.0/",
                f"© ESA WorldCover project{of} / Contains modified Copernicus Sentinel data{of} processed by ESA WorldCover consortium",
            )
        ]
    return []  # a user's own polygons: the recipe says whose they are


_COPERNICUS_DEM = DataSource(
    "Copernicus DEM",
    _ESA,
    "https://doi.org/10.5270/ESA-c5d3d65",
    "Copernicus DEM licence",
    "https://dataspace.copernicus.eu/explore-data/data-collections/copernicus-contributing-missions/collections-description/COP-DEM",
    "Produced using Copernicus WorldDEM © DLR e.V. 2010-2014 and © Airbus Defence and Space GmbH 2014-2018, "
    "provided under COPERNICUS by the European Union and ESA; all rights reserved",
)
_KOEPPEN = DataSource(
    "Köppen-Geiger climate zones",
    "H. E. Beck et al.",
    "https://doi.org/10.1038/sdata.2018.214",
    "CC-BY-4.0",
    "https://creativecommons.org/licenses/by/4.0/",
    "Climate zones of Beck et al. (2018), Scientific Data 5, 180214",
)


def spdx(licence: str) -> str | None:
    """A licence as SPDX's list writes it, if what the recipe says is one name of that list, as cc-by-4.0 is.

    None for any other words, and for expressions such as "MIT OR Apache-2.0", which the schema of STAC 1.1 has no place for.
    """
    if not re.fullmatch(r"[\w.+-]+", licence, re.ASCII) or licence.lower().startswith("licenseref-"):
        return None
    try:
        return canonicalize_license_expression(licence)
    except InvalidLicenseExpression:
        return None


def titles_of(sensors: Iterable[str]) -> list[str]:
    """Names of sensors as people say them, in the order of their numbers."""
    return sorted(SENSORS[name].title for name in sensors)


def summary_of(recipe: Recipe, patches: pd.DataFrame, sensors: Iterable[str]) -> str:
    """One sentence on what a dataset holds.

    Args: patches: the kept rows of the patch table; sensors: those whose pixels it holds.
    """
    counts: dict[str, Any] = {str(name): int(count) for name, count in patches["split"].value_counts().items()}
    said = ", ".join(f"{counts[name]:,} {name}" for name in ("train", "validation", "test") if name in counts)
    imagery = " and ".join(titles_of(sensors))
    made = " made from synthetic scenes" if recipe.synthetic is not None else ""
    return f"{len(patches):,} {imagery} patches of 1200 m with land cover labels{made} ({said or 'no splits'})."

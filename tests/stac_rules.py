"""What the STAC extensions that rsdata writes ask of their fields, stated again for tests without a network.

The published schemas are only to be had from the web, and no package of a registry carries them; where they are at hand,
``stac_schemas`` holds the same items to the originals. These are their rules for the fields, and beyond them that every field
is of an extension that is stated, in summaries too.
"""

from collections.abc import Iterator
from typing import Any

import jsonschema

_TEXT, _POSITIVE = {"type": "string", "minLength": 1}, {"type": "number", "exclusiveMinimum": 0}
_PERCENT = {"type": "number", "minimum": 0, "maximum": 100}
_COMMON_NAMES = [
    "pan", "coastal", "blue", "green", "green05", "yellow", "red", "rededge", "rededge071", "rededge075", "rededge078", "nir", "nir08",
    "nir09", "cirrus", "swir16", "swir22", "lwir", "lwir11", "lwir12",
]  # fmt: skip
_CLASS = {
    "type": "object",
    "required": ["value", "name"],
    "properties": {
        "value": {"type": "integer"},
        "name": {"type": "string", "pattern": "^[0-9A-Za-z_-]+$"},
        "title": {"type": "string"},
        "description": {"type": "string"},
        "color_hint": {"type": "string", "pattern": "^[0-9A-Fa-f]{6}$"},
        "nodata": {"type": "boolean"},
        "percentage": _PERCENT,
        "count": {"type": "integer", "minimum": 0},
    },
}


def _numbers(*counts: int, kind: str = "number") -> dict[str, Any]:
    return {"type": "array", "items": {"type": kind}, "anyOf": [{"minItems": n, "maxItems": n} for n in counts]}


# Extension and version to the prefix of its fields and what each must be.
RULES: dict[str, tuple[str, dict[str, Any]]] = {
    "projection/v2.0.0": (
        "proj:",
        {
            "code": {"type": ["string", "null"]},
            "bbox": _numbers(4, 6),
            "shape": _numbers(2, kind="integer"),
            "transform": _numbers(6, 9),
        },
    ),
    "eo/v2.0.0": (
        "eo:",
        {
            "cloud_cover": _PERCENT,
            "snow_cover": _PERCENT,
            "common_name": {"enum": _COMMON_NAMES},
            "center_wavelength": {"type": "number"},
            "full_width_half_max": {"type": "number"},
            "solar_illumination": {"type": "number", "minimum": 0},
        },
    ),
    "sar/v1.3.2": (
        "sar:",
        {
            "instrument_mode": _TEXT,
            "frequency_band": {"enum": ["P", "L", "S", "C", "X", "Ku", "K", "Ka"]},
            "center_frequency": _POSITIVE,
            "product_type": _TEXT,
            "polarizations": {"type": "array", "minItems": 1, "items": {"enum": [sent + got for got in "HV" for sent in "HVLRC"]}},
        },
    ),
    "raster/v2.0.0": ("raster:", {"scale": {"type": "number"}, "offset": {"type": "number"}}),
    "classification/v2.0.0": ("classification:", {"classes": {"type": "array", "minItems": 1, "uniqueItems": True, "items": _CLASS}}),
    "file/v2.1.0": (
        "file:",
        {"size": {"type": "integer", "minimum": 0}, "checksum": {"type": "string", "pattern": "^[a-f0-9]+$"}},
    ),
    "processing/v1.1.0": (
        "processing:",
        {"level": {"type": "string"}, "software": {"type": "object", "additionalProperties": {"type": "string"}}},
    ),
    "ml-aoi/v0.2.0": ("ml-aoi:", {"split": {"enum": ["train", "test", "validate"]}, "role": {"enum": ["label", "feature"]}}),
}


def _holders(entity: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every object of an item or a collection that may have fields of an extension, and where it is."""
    yield "properties", entity.get("properties", {})
    for group in ("assets", "item_assets"):
        for name, asset in entity.get(group, {}).items():
            yield f"{group}.{name}", asset
            for band in asset.get("bands", []):
                yield f"{group}.{name}.{band['name']}", band


def findings(entity: dict[str, Any]) -> list[str]:
    """One sentence for each rule that an item or a collection breaks."""
    stated = {url.removeprefix("https://stac-extensions.github.io/").removesuffix("/schema.json") for url in entity["stac_extensions"]}
    found = [f"{name} is not known here" for name in stated - set(RULES)]
    for name, (prefix, fields) in RULES.items():
        used = [(where, key, value) for where, holder in _holders(entity) for key, value in holder.items() if key.startswith(prefix)]
        summarised = {key: value for key, value in entity.get("summaries", {}).items() if key.startswith(prefix)}
        if name not in stated:
            found += [f"{where}: {key} is used without {name}" for where, key, value in used if value is not None]
            found += [f"summaries: {key} is used without {name}" for key in summarised]
            continue
        if not used and not summarised:
            found.append(f"{name} is stated and not used")
        for key, value in summarised.items():
            if isinstance(value, list):
                used += [("summaries", key, each) for each in value]
            elif set(value) != {"minimum", "maximum"}:
                found.append(f"summaries: {key} is neither a list nor a range")
        for where, key, value in used:
            rule = fields.get(key.removeprefix(prefix))
            if rule is None:
                found.append(f"{where}: {name} has no field {key}")
            else:
                found += [f"{where}: {key} {error.message}" for error in jsonschema.Draft7Validator(rule).iter_errors(value)]
    # Of items this extension alone wants a field among the properties; the others are content with one of an asset.
    own = [key for key in entity.get("properties", {}) if key.startswith("processing:")]
    if entity["type"] == "Feature" and "processing/v1.1.0" in stated and not own:
        found.append("properties: processing/v1.1.0 asks for a field of its own")
    return found

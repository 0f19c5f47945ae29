"""What the pages for people share: templates, one style, scripts inside the page, and numbers as people read them.

Every text passes through the template's escaping. A page may run only the scripts that were written into it, named in
its policy by their digests, and may load nothing.
"""

import base64
import hashlib
import json
import math
import re
from collections.abc import Sequence
from functools import cache
from importlib import resources
from typing import Any

import jinja2
import pandas as pd

NO_COLOR = "#8c8c8c"


def render(template: str, scripts: Sequence[str], **values: Any) -> str:
    """Fill in a template of ``templates/``; its ``scripts`` are files there, ``policy`` allows them and nothing else."""
    texts = [_source(name) for name in scripts]
    allowed = " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode('ascii')}'" for text in texts)
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src {allowed}"
    return _environment().get_template(template).render(style=_source("style.css"), scripts=texts, policy=policy, **values)


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_source), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "number": number, "percent": percent, "distance": distance, "metres": metres, "score": score, "size": size,
    }  # fmt: skip
    return environment


def _source(name: str) -> str:
    return resources.files("rsdata.catalog").joinpath("templates", name).read_text(encoding="utf-8")


def embedded_json(content: Any) -> str:
    """JSON that may stand inside a script element, which only "<" could end."""
    return json.dumps(content, separators=(",", ":")).replace("<", "\\u003c")


def safe_color(text: str | None) -> str:
    """A colour that may stand in a style, grey if the text is none."""
    return text if text is not None and re.fullmatch(r"#[0-9a-fA-F]{6}", text) else NO_COLOR


# --- numbers as people read them --------------------------------------------------------------------------


def number(value: int) -> str:
    return f"{value:,}"


def percent(value: float | None) -> str:
    """A share between 0 and 1 as percent; one that is small but not zero does not read as zero."""
    if value is None or not math.isfinite(value):
        return "–"
    return "<\u00a00.1\u00a0%" if 0 < value < 0.0005 else f"{value * 100:.1f}\u00a0%"


def distance(distance_m: float | None) -> str:
    if distance_m is None or not math.isfinite(distance_m):
        return "–"
    return f"{distance_m:,.0f}\u00a0m" if distance_m < 1000 else f"{distance_m / 1000:,.1f}\u00a0km"


def metres(distance_m: float) -> str:
    """A stated distance, not rounded to kilometres."""
    return f"{distance_m:,g}\u00a0m" if distance_m < 1e6 else f"{distance_m:,.0f}\u00a0m"


def score(value: float | None) -> str:
    return "–" if value is None or not math.isfinite(value) else f"{value:.3f}"


def size(count: float) -> str:
    """Bytes in the decimal unit that suits them."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= factor:
            return f"{count / factor:,.1f}\u00a0{unit}"
    return f"{count:.0f}\u00a0B"


def day(time: Any) -> str:
    return "" if pd.isna(time) else f"{time.day} {time:%B %Y}"


def patches(count: int, kind: str = "") -> str:
    return f"{count:,} {kind + ' ' if kind else ''}{'patch' if count == 1 else 'patches'}"

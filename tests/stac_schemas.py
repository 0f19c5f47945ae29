"""The published schemas of STAC's extensions: fetched once, then read from a folder that is laid out as their addresses are.

They are to be had from the web alone, so tests use a folder that the environment names; ``python tests/stac_schemas.py FOLDER``
fills one, for which it needs a network. A version that is not published ends it with a failure; no network only with a word.
"""

import json
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import referencing
from referencing.jsonschema import DRAFT7

from rsdata.catalog.exports.stac import EXTENSIONS

FOLDER = "RSDATA_STAC_SCHEMAS"  # environment variable
_PATIENCE_S = 20
_DRAFTS = "json-schema.org"  # the language itself, which jsonschema knows


def folder() -> Path | None:
    """Where the schemas lie; None if the environment does not say, or says a folder that was never filled."""
    named = os.environ.get(FOLDER)
    return Path(named) if named and any(Path(named).rglob("*.json")) else None


def path_of(schemas: Path, url: str) -> Path:
    return schemas / url.partition("#")[0].removeprefix("https://").removeprefix("http://")


def read(schemas: Path, url: str) -> Any:
    """Raises: FileNotFoundError if the folder has no such schema."""
    return json.loads(path_of(schemas, url).read_text(encoding="utf-8"))


def findings(schemas: Path, entity: dict[str, Any]) -> list[str]:
    """One line for each thing that a schema of the item's or collection's extensions refuses.

    Raises: FileNotFoundError if a schema is not in the folder.
    """
    registry = referencing.Registry(retrieve=lambda url: DRAFT7.create_resource(read(schemas, url)))
    found = []
    for url in entity["stac_extensions"]:
        validator = jsonschema.Draft7Validator(read(schemas, url), registry=registry)
        found += [f"{url}: {error.json_path} {error.message[:300]}" for error in validator.iter_errors(entity)]
    return found


def fetch(schemas: Path) -> int:
    """Fetch what is missing, with what it refers to; return how many there are.

    Raises: urllib.error.URLError if there is no network; its HTTPError if there is no such schema.
    """
    wanted, done = list(EXTENSIONS.values()), set()
    while wanted:
        url = wanted.pop().partition("#")[0]
        if url in done:
            continue
        done.add(url)
        path = path_of(schemas, url)
        if not path.exists():
            with urllib.request.urlopen(url, timeout=_PATIENCE_S) as answer:
                content = answer.read()
            json.loads(content)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        wanted += [each for each in _references(read(schemas, url)) if each.startswith("http") and _DRAFTS not in each]
    return len(done)


def _references(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        if isinstance(schema.get("$ref"), str):
            yield schema["$ref"]
        for each in schema.values():
            yield from _references(each)
    elif isinstance(schema, list):
        for each in schema:
            yield from _references(each)


if __name__ == "__main__":
    try:
        print(f"{fetch(Path(sys.argv[1]))} schemas of STAC extensions in {sys.argv[1]}")
    except urllib.error.HTTPError as error:
        sys.exit(f"{error.url} answers {error.code}; name a version in rsdata/catalog/exports/stac.py that is published")
    except OSError as error:
        print(f"the schemas of STAC extensions cannot be fetched ({error}); their rules in tests/stac_rules.py are tested alone")

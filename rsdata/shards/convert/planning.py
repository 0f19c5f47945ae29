"""Which values a dataset's folders give, in the order of their keys, before any pixel is read.

Only as many folders are listed as it takes to know the keys: where a value's files follow from the names of its
folders, the folder that holds them is not read, and a file that is not there shows when it is opened. Files and folders
that the description does not name are left alone.
"""

import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from rsdata.errors import ShardError
from rsdata.shards.convert.specs import DatasetSpec, Input, Layout, Option, fields_of

_LONGEST_KEY = 511  # bytes, LMDB's limit

# A value: its key, the index of its source, then the fields of its path in the source's order. Plain tuples, as a
# dataset may have millions.
Value = tuple[str, int, *tuple[str, ...]]


@dataclass(frozen=True)
class Source:
    """One input with the folder it was found in."""

    input: Input
    folder: Path
    layout: Layout
    fields: tuple[str, ...]  # of its paths, save ``band``, in the order they appear

    def paths(self, value: Value) -> list[str]:
        """The files of a value: one per band in the input's order, or one for all."""
        return self.joined_paths(value).split("\0")[:-1]

    def joined_paths(self, value: Value) -> str:
        """The files of a value, each with a zero byte behind it."""
        return self._pattern.format(**dict(zip(self.fields, value[2:], strict=True)))

    @cached_property
    def _pattern(self) -> str:
        """What the fields of a value are put into to give its paths."""
        folder, *names = (text.replace("{", "{{").replace("}", "}}") for text in (str(self.folder), *self.input.band_names))
        files = [self.input.files.replace("{band}", name) for name in names] if self.input.per_band else [self.input.files]
        return "".join(f"{folder}/{file}\0" for file in files)

    @property
    def files_per_value(self) -> int:
        return len(self.input.band_names) if self.input.per_band else 1


@dataclass(frozen=True)
class Plan:
    """Every value of a dataset."""

    spec: DatasetSpec
    sources: tuple[Source, ...]
    values: list[Value]  # by key
    digest: str  # over the description and the keys

    def files(self) -> int:
        per_value = [source.files_per_value for source in self.sources]
        return sum(per_value[value[1]] for value in self.values)


def plan(spec: DatasetSpec, folders: Mapping[Option, Path]) -> Plan:
    """List the folders of a dataset; any subset of its inputs will do.

    Raises: ShardError if a folder is not one the dataset has, cannot be read or holds nothing of the kind, or if two
        values have one key.
    """
    known = {each.option: each for each in spec.inputs}
    for option in folders:
        if option not in known:
            raise ShardError(f"{spec.name} has no --{option}; it takes {', '.join(f'--{each}' for each in known)}", option=option)
    if not folders:
        raise ShardError(f"{spec.name} needs at least one of {', '.join(f'--{each}' for each in known)}")
    sources: list[Source] = []
    values: list[Value] = []
    for option, each in known.items():
        if option in folders:
            source = _source(each, folders[option])
            found = list(_values(source, len(sources)))
            if not found:
                raise ShardError(
                    f"{folders[option]} holds nothing like {each.files}; name the folder that these paths begin in",
                    path=str(folders[option]),
                )
            sources.append(source)
            values += found
    values.sort()
    _check_keys(values, sources)
    digest = hashlib.sha256(spec.model_dump_json().encode())
    digest.update(repr([source.input.option for source in sources]).encode())
    for value in values:
        digest.update(b"\0" + value[0].encode())
    return Plan(spec, tuple(sources), values, digest.hexdigest())


def _source(each: Input, folder: Path) -> Source:
    fields = tuple(dict.fromkeys(name for name in re.findall(r"{(\w+)}", each.files) if name != "band"))
    return Source(each, folder, Layout(each), fields)


def _check_keys(values: list[Value], sources: list[Source]) -> None:
    last: Value | None = None
    for value in values:
        if last is not None and last[0] == value[0]:
            places = " and ".join(sources[each[1]].paths(each)[0] for each in (last, value))
            raise ShardError(f"the key {value[0]} comes twice, from {places}; remove one of them", key=value[0])
        try:
            length = len(value[0].encode())
        except UnicodeEncodeError as error:
            raise ShardError(f"{sources[value[1]].paths(value)[0]!r} is not named in UTF-8; rename it") from error
        if length > _LONGEST_KEY:
            raise ShardError(f"the key {value[0]} is {length} bytes long, LMDB allows {_LONGEST_KEY}", key=value[0])
        last = value


def _values(source: Source, index: int) -> Iterator[Value]:
    """Values of one input, in the order the folders are listed."""
    *folders, file = source.input.files.split("/")
    key = source.input.key

    def walk(place: str, depth: int, known: dict[str, str]) -> Iterator[dict[str, str]]:
        if depth == len(folders):
            yield from _in_folder(place, file, known, source.input.band_names)
            return
        if not fields_of(folders[depth]):
            yield from walk(f"{place}/{folders[depth]}", depth + 1, known) if Path(place, folders[depth]).is_dir() else ()
            return
        pattern = _matcher(folders[depth], known)
        for entry in _listed(place):
            match = pattern.fullmatch(entry.name)
            if match and entry.is_dir():
                yield from walk(entry.path, depth + 1, known | match.groupdict())

    for known in walk(str(source.folder), 0, {}):
        made = key.format(**known)
        # where the key is a folder's name, both are one string
        yield (made, index, *(made if known[name] == made else known[name] for name in source.fields))


def _in_folder(place: str, file: str, known: dict[str, str], bands: tuple[str, ...]) -> Iterator[dict[str, str]]:
    """The values whose files lie in one folder, as the fields of their paths."""
    if fields_of(file) - {"band"} <= known.keys() and (known or "band" in fields_of(file)):
        yield known
        return
    pattern = _matcher(file, known, bands)
    seen = set()
    for entry in _listed(place):
        match = pattern.fullmatch(entry.name)
        if match:
            found = match.groupdict()
            found.pop("band", None)
            if (mark := tuple(found.values())) not in seen:
                seen.add(mark)
                yield known | found


def _matcher(component: str, known: Mapping[str, str], bands: tuple[str, ...] = ()) -> re.Pattern[str]:
    """A regular expression for one part of a path; fields that are known stand for their text."""
    text, bound = "", set()
    for piece in re.split(r"({\w+})", component):
        if not piece.startswith("{"):
            text += re.escape(piece)
        elif (name := piece[1:-1]) in known:
            text += re.escape(known[name])
        else:
            some = "|".join(map(re.escape, bands)) if name == "band" else ".+"
            text += f"(?P={name})" if name in bound else f"(?P<{name}>{some})"
            bound.add(name)
    return re.compile(text, re.DOTALL)


def _listed(place: str) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(place) as entries:
            yield from entries
    except OSError as error:
        raise ShardError(f"{place} cannot be listed: {error.strerror}; name a folder you may read", path=place) from error

"""What changed between two builds of a dataset, in words and counts: recipe, inputs, software, patches, splits, labels, files.

Nothing is read here but what is handed in, and nothing is judged: two builds are the same if no list has an entry.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from rsdata.records import BuildDifferences, Manifest, PatchChanges

_EXAMPLES = 10  # patches named of each kind of change
_NO_REASON = "no stated reason"
_COLUMNS = (
    "s2_product", "s1_product", "datetime", "country", "contains_cloud_or_shadow", "contains_seasonal_snow",
    "nodata_fraction", "unlabeled_fraction", "cloud_fraction", "shadow_fraction", "snow_fraction", "s1_time_gap_h",
)  # fmt: skip


def differences(
    a: Manifest, b: Manifest, recipes: tuple[Mapping[str, Any], Mapping[str, Any]], tables: tuple[pd.DataFrame, pd.DataFrame]
) -> BuildDifferences:
    """What b has other than a.

    Args:
        recipes: of a and of b, as plain values.
        tables: patch tables of a and of b, dropped patches too.
    """
    return BuildDifferences(
        recipe=sorted(_recipe(*recipes)),
        software=_values({**a.software, "rsdata": a.rsdata_version}, {**b.software, "rsdata": b.rsdata_version}),
        inputs=_inputs(a, b),
        patches=_patches(*tables),
        counts=_values(_tallies(a), _tallies(b)),
        files=_files(a, b),
    )


def differences_in_words(found: BuildDifferences) -> list[tuple[str, str]]:
    """Every difference as what it concerns and a sentence."""
    rows = [(name, line) for name in ("recipe", "inputs", "software", "counts") for line in getattr(found, name)]
    rows += [("patches", f"{_counted(change)}, such as {change.examples[0]}") for change in found.patches]
    return [*rows, *(("files", line) for line in found.files)]


def _counted(change: PatchChanges) -> str:
    """How many patches did what, in the number that fits."""
    if change.count != 1:
        return f"{change.count:,} patches {change.what}"
    said = change.what.replace(" and are ", " and is ")
    for many, one in (("were ", "was "), ("have ", "has ")):
        said = one + said.removeprefix(many) if said.startswith(many) else said
    return f"1 patch {said}"


def _flat(value: Any, name: str = "") -> dict[str, str]:
    """Every leaf of a recipe by its dotted name."""
    if isinstance(value, Mapping) and value:
        return {path: leaf for key, inner in value.items() for path, leaf in _flat(inner, f"{name}.{key}" if name else str(key)).items()}
    return {name: str(value) or "empty"}


def _recipe(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    return _values(_flat(a), _flat(b))


def _values(a: Mapping[str, object], b: Mapping[str, object]) -> list[str]:
    """Names whose values differ, one sentence each."""
    lines = []
    for name in [*a, *(name for name in b if name not in a)]:
        if name not in b:
            lines.append(f"{name} was {a[name]}, and is absent now")
        elif name not in a:
            lines.append(f"{name} is {b[name]}, and was absent")
        elif a[name] != b[name]:
            lines.append(f"{name} was {a[name]}, and is {b[name]}")
    return lines


def _tallies(manifest: Manifest) -> dict[str, int]:
    """Every count a manifest states, by name."""
    counts = dict(manifest.counts)
    counts |= {f"dropped for {name}": count for name, count in manifest.dropped.items()}
    counts |= {f"in {name}": count for name, count in manifest.splits.items()}
    return {**counts, "failures": len(manifest.failures)}


def _inputs(a: Manifest, b: Manifest) -> list[str]:
    before, after = ({(item.kind, item.name): item for item in each.inputs} for each in (a, b))
    lines = [f"{kind} {name} is no longer used" for kind, name in before if (kind, name) not in after]
    lines += [f"{kind} {name} is new" for kind, name in after if (kind, name) not in before]
    for key, was in before.items():
        now = after.get(key)
        if now is None or now == was:
            continue
        about = _values(
            {"edition": was.version, "made by": was.made_by, "products": ", ".join(was.products)},
            {"edition": now.version, "made by": now.made_by, "products": ", ".join(now.products)},
        )
        contents = ["its contents differ"] if was.sha256 != now.sha256 else []
        lines.append(f"{key[0]} {key[1]}: {'; '.join([*contents, *about])}")
    return sorted(lines)


def _files(a: Manifest, b: Manifest) -> list[str]:
    before, after = ({item.path: item for item in each.outputs} for each in (a, b))
    lines = [f"{path} is gone" for path in before if path not in after]
    lines += [f"{path} is new ({item.bytes:,} bytes)" for path, item in after.items() if path not in before]
    for path, was in before.items():
        now = after.get(path)
        if now is not None and now.sha256 != was.sha256:
            lines.append(f"{path} differs ({was.bytes:,} bytes, now {now.bytes:,})")
    return sorted(lines)


def _patches(a: pd.DataFrame, b: pd.DataFrame) -> list[PatchChanges]:
    before, after = a.set_index("patch_id"), b.set_index("patch_id")
    changes = [
        _change("were removed", before.index.difference(after.index)),
        _change("were added", after.index.difference(before.index)),
    ]
    both = before.index.intersection(after.index)
    was, now = before.loc[both], after.loc[both]
    kept_was, kept_now = was["kept"].astype(bool), now["kept"].astype(bool)
    for reason, ids in _grouped(now["drop_reason"], kept_was & ~kept_now):
        changes.append(_change(f"were kept and are dropped for {reason}", ids))
    for reason, ids in _grouped(was["drop_reason"], ~kept_was & kept_now):
        changes.append(_change(f"were dropped for {reason} and are kept", ids))
    reasons = was["drop_reason"].fillna(_NO_REASON) + " and are dropped for " + now["drop_reason"].fillna(_NO_REASON)
    for change, ids in _grouped(reasons, ~kept_was & ~kept_now & _differ(was["drop_reason"], now["drop_reason"])):
        changes.append(_change(f"were dropped for {change}", ids))
    moves = was["split"].fillna("none").astype(str) + " to " + now["split"].fillna("none").astype(str)
    for move, ids in _grouped(moves, kept_was & kept_now & _differ(was["split"], now["split"])):
        changes.append(_change(f"moved from {move}", ids))
    changes += _label_changes(was["labels"], now["labels"])
    for column in _COLUMNS:
        changes.append(_change(f"have another {column}", both[_differ(was[column], now[column]).to_numpy()]))
    fractions = [dict(x) != dict(y) for x, y in zip(was["label_fractions"], now["label_fractions"], strict=True)]
    changes.append(_change("have other label_fractions", both[fractions]))
    return [change for change in changes if change.count]


def _label_changes(was: pd.Series, now: pd.Series) -> list[PatchChanges]:
    """Patches by how their labels changed, and which labels they gained and lost most."""
    pairs = [(patch_id, set(x), set(y)) for patch_id, x, y in zip(was.index, was, now, strict=True)]
    changed = [patch_id for patch_id, x, y in pairs if x != y]
    changes = [_change("have other labels", changed)]
    for word, of in (("gained", [(p, y - x) for p, x, y in pairs]), ("lost", [(p, x - y) for p, x, y in pairs])):
        tally = Counter(name for _, names in of for name in names)
        changes += [_change(f"{word} the label {name}", [p for p, names in of if name in names]) for name, _ in sorted(tally.items())]
    return changes


def _differ(a: pd.Series, b: pd.Series) -> pd.Series:
    """Where two columns have other values; both missing is the same."""
    return ~((a == b) | (a.isna() & b.isna()))


def _grouped(values: pd.Series, chosen: pd.Series) -> Iterable[tuple[str, pd.Index]]:
    named = values[chosen].fillna(_NO_REASON)
    for name, rows in named.groupby(named):
        yield str(name), rows.index


def _change(what: str, ids: Iterable[str]) -> PatchChanges:
    named = sorted(ids)
    return PatchChanges(what=what, count=len(named), examples=named[:_EXAMPLES])

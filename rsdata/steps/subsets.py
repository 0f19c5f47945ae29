"""Manifests over patches, made from a dataset, a shard or any table: label noise, subsets, clients, strata and pruning."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from rsdata import labels, subsets
from rsdata.catalog.geoparquet import ROWS_PER_GROUP, open_writer, read_table, rows_as_arrow
from rsdata.errors import SubsetError
from rsdata.recipe import load_recipe
from rsdata.records import (
    SUBSET_KEY,
    ClientRow,
    CountRow,
    NoisyLabelsRow,
    PatchFacts,
    PruneRow,
    Record,
    SubsetInfo,
    SubsetRow,
)
from rsdata.steps.label_inputs import nomenclature_of
from rsdata.steps.subset_sources import Source, read_embeddings, read_source
from rsdata.workspace import file_sha256
from rsdata.writing import writing

_NOMENCLATURE = "bigearthnet-19"  # of labels in a table that does not say
_THEMES = "clc-1"  # whose classes are the themes


def make_noise(source: Path, out: Path, *, kind: str, rate: float, seed: int = 0, split: str | None = "train") -> SubsetInfo:
    """Write labels with noise, the clean ones, and where they differ; see ``rsdata.subsets.noise``."""
    read = read_source(source)
    patches = subsets.Patches.of(read.table, split, read.classes)
    noise = subsets.inject(patches, kind, rate, seed)
    removed, added = noise.flipped & patches.labels, noise.flipped & ~patches.labels
    rows = [
        CountRow(
            name=name,
            counts={
                "clean": int(patches.labels[:, index].sum()),
                "removed": int(removed[:, index].sum()),
                "added": int(added[:, index].sum()),
                "noisy": int(noise.labels[:, index].sum()),
            },
        )
        for index, name in enumerate(patches.classes)
    ]
    counts = {
        "patches": len(patches),
        "entries": patches.labels.size,
        "present": int(patches.labels.sum()),
        "removed": int(removed.sum()),
        "added": int(added.sum()),
        "patches with a wrong label": int(noise.flipped.any(axis=1).sum()),
        "patches left without a label": int((patches.labels.any(axis=1) & ~noise.labels.any(axis=1)).sum()),
    }
    info = _info("noise", read, {"kind": kind, "rate": rate, "seed": seed}, split, patches.classes, counts, "class", rows)
    columns = {
        "patch_id": patches.ids,
        "labels": patches.names(noise.labels),
        "clean_labels": patches.names(patches.labels),
        "flipped": noise.flipped.tolist(),
    }
    return _write(out, columns, NoisyLabelsRow, info)


def make_few_shot(source: Path, out: Path, *, counts: Sequence[int], seed: int = 0, split: str | None = "train") -> SubsetInfo:
    """Write which patches give each class at least k, for each k; see ``rsdata.subsets.few_shot``."""
    read = read_source(source)
    patches = subsets.Patches.of(read.table, split, read.classes)
    within = subsets.few_shot(patches, counts, seed)
    have = patches.labels.sum(axis=0)
    poor = [f"{name} has only {have[index]}" for index, name in enumerate(patches.classes) if 0 < have[index] < max(counts)]
    absent = [name for index, name in enumerate(patches.classes) if not have[index]]
    notes = [f"fewer than {max(counts)} patches: {', '.join(poor)}"] if poor else []
    notes += [f"no patch has {', '.join(absent)}"] if absent else []
    return _write_sizes(out, read, patches, within, "few-shot", {"k": [float(each) for each in counts], "seed": seed}, split, notes)


def make_nested(source: Path, out: Path, *, shares: Sequence[float], seed: int = 0, split: str | None = "train") -> SubsetInfo:
    """Write shares of the patches that lie inside each other; see ``rsdata.subsets.nested``."""
    read = read_source(source)
    patches = subsets.Patches.of(read.table, split, read.classes)
    return _write_sizes(out, read, patches, subsets.nested(patches, shares, seed), "nested", {"shares": list(shares), "seed": seed}, split)


def make_strata(
    source: Path,
    out: Path,
    *,
    sizes: Sequence[float],
    by: Sequence[str] = ("climate", "theme"),
    seed: int = 0,
    split: str | None = "train",
    facts: Path | None = None,
    nomenclature: str | None = None,
) -> SubsetInfo:
    """Write the same share, or number, of the patches of every stratum; see ``rsdata.subsets.strata``.

    Args:
        sizes: shares up to 1, or whole numbers above 1.
        by: climate, theme, country, season, tile or any column of the table.
        facts: where climates are read from; the dataset's own ``facts.parquet`` if absent.
        nomenclature: of the labels, where ``source`` is no dataset; BigEarthNet's 19 classes if absent.
    """
    read = read_source(source)
    patches = subsets.Patches.of(read.table, split, read.classes)
    groups = []
    for each in by:
        if each == "climate" and "climate" not in patches.table:
            groups.append(_climates(patches, read, facts))
        elif each == "theme" and "theme" not in patches.table:
            groups.append(subsets.main_themes(patches, _theme_of(read, nomenclature)))
        else:
            groups.append(patches.groups(each))
    if not groups:
        raise SubsetError("strata need something to go by; name climate, theme, country, season or tile")
    stratum = subsets.strata(groups)
    within = subsets.sample(stratum, sizes, seed)
    rows = [
        CountRow(
            name=name,
            counts={"all": int((stratum == name).sum())}
            | {f"{size:g}": int(((stratum == name) & (within <= size)).sum()) for size in sorted(set(sizes))},
        )
        for name in sorted(set(stratum))
    ]
    options = {"sizes": list(sizes), "by": list(by), "seed": seed}
    info = _info("strata", read, options, split, patches.classes, _size_counts(within), "stratum", rows)
    return _write_within(out, patches, within, stratum, info)


def make_clients(
    source: Path,
    out: Path,
    *,
    by: str,
    clients: int | None = None,
    alpha: float = 0.5,
    least: int = 1,
    modalities: Sequence[str] = (),
    seed: int = 0,
    split: str | None = "train",
    picture: Path | None = None,
) -> SubsetInfo:
    """Write which client holds each patch, and draw the classes' shares; see ``rsdata.subsets.divide``."""
    read = read_source(source)
    patches = subsets.Patches.of(read.table, split, read.classes)
    if read.sensors is not None and len(read.sensors) == 1:
        modalities = _only(read.sensors[0], by, modalities)
    found = subsets.divide(patches, by, subsets.Settings(clients, alpha, least), seed, modalities)
    names = sorted(found.sensors)
    held = np.stack([patches.labels[found.client == name].sum(axis=0) for name in names])
    rows = [
        CountRow(
            name=f"{name} ({'+'.join(found.sensors[name])})",
            counts={"patches": int((found.client == name).sum())}
            | {each: int(held[index, column]) for column, each in enumerate(patches.classes) if held[:, column].any()},
        )
        for index, name in enumerate(names)
    ]
    options: dict[str, Any] = {"by": by, "clients": clients, "seed": seed, "modalities": list(modalities)}
    options |= {"alpha": alpha, "least": least} if by == "dirichlet" else {}
    info = _info("clients", read, options, split, patches.classes, {"patches": len(patches), "clients": len(names)}, "client", rows)
    if picture is not None:
        if picture.suffix not in (".svg", ".png"):
            raise SubsetError(f"{picture} is no picture; give it a name that ends in .svg or .png", path=str(picture))
        shown = [index for index in range(len(patches.classes)) if held[:, index].any()]
        title = f"{by}, {len(names)} clients" + (f", alpha {alpha:g}" if by == "dirichlet" else "")
        with writing(picture) as aside:
            drawn = aside.with_suffix(picture.suffix)
            subsets.draw_shares(drawn, held[:, shown], names, [patches.classes[index] for index in shown], title)
            drawn.replace(aside)
    columns = {"patch_id": patches.ids, "client": found.client, "sensors": [list(found.sensors[each]) for each in found.client]}
    return _write(out, columns, ClientRow, info)


def _only(sensor: str, by: str, modalities: Sequence[str]) -> Sequence[str]:
    """The sensors of clients of a dataset that holds one. Raises: SubsetError if they are to have others."""
    if by == "modality" or set(modalities) - {sensor}:
        asked = f"sensors {', '.join(modalities)}" if modalities else "clients of several sensors"
        raise SubsetError(f"the dataset holds {sensor} alone, so there are no {asked}; take another partition or dataset", sensor=sensor)
    return [sensor]


def prune_patches(
    embeddings: Path, out: Path, *, near: float | None = None, keep: int | None = None, split: str | None = "train"
) -> SubsetInfo:
    """Write which patches to keep: none near to another (``near``, a cosine), the ``keep`` most diverse, or first the one, then the other.

    Args: embeddings: Parquet with ``patch_id``, ``embedding`` and, for a split, ``split``, as ``embed_patches`` writes it.
    """
    if near is None and keep is None:
        raise SubsetError("nothing says what to leave out; give a cosine from which patches are near, a number to keep, or both")
    ids, vectors = read_embeddings(embeddings, split)
    found = subsets.Near(np.full(len(ids), subsets.FREE), np.full(len(ids), np.nan))
    if near is not None:
        found = subsets.near_duplicates(vectors, near)
    kept = found.keeper == subsets.FREE
    order = np.full(len(ids), -1)
    counts = {"patches": len(ids), "near another": int((~kept).sum())}
    if keep is not None:
        chosen = subsets.far_apart(vectors, keep, np.flatnonzero(kept))
        order[chosen] = np.arange(len(chosen))
        counts["left out for diversity"] = int(kept.sum()) - len(chosen)
        kept = order >= 0
    counts["kept"] = int(kept.sum())
    info = SubsetInfo(
        kind="prune", options={"near": near, "keep": keep}, source=embeddings.name, source_sha256=file_sha256(embeddings),
        split=split, classes=[], counts=counts, of="patch", rows=[],
    )  # fmt: skip
    columns = {
        "patch_id": ids,
        "kept": kept,
        "near": [None if each == subsets.FREE else ids[each] for each in found.keeper],
        "similarity": [None if np.isnan(each) else float(each) for each in found.similarity],
        "order": [None if each < 0 else int(each) for each in order],
    }
    return _write(out, columns, PruneRow, info)


def _write_sizes(
    out: Path,
    read: Source,
    patches: subsets.Patches,
    within: npt.NDArray[np.float64],
    kind: str,
    options: dict[str, Any],
    split: str | None,
    notes: Sequence[str] = (),
) -> SubsetInfo:
    sizes = sorted({float(each) for each in within[~np.isnan(within)]})
    rows = [
        CountRow(
            name=name,
            counts={"all": int(patches.labels[:, index].sum())}
            | {f"{size:g}": int(patches.labels[within <= size, index].sum()) for size in sizes},
        )
        for index, name in enumerate(patches.classes)
    ]
    info = _info(kind, read, options, split, patches.classes, _size_counts(within), "class", rows, notes)
    return _write_within(out, patches, within, None, info)


def _write_within(
    out: Path, patches: subsets.Patches, within: npt.NDArray[np.float64], stratum: npt.NDArray[np.object_] | None, info: SubsetInfo
) -> SubsetInfo:
    chosen = ~np.isnan(within)
    group = [None] * int(chosen.sum()) if stratum is None else stratum[chosen]
    return _write(out, {"patch_id": patches.ids[chosen], "within": within[chosen], "group": group}, SubsetRow, info)


def _size_counts(within: npt.NDArray[np.float64]) -> dict[str, int]:
    sizes = sorted(set(within[~np.isnan(within)].tolist()))
    return {"patches": len(within)} | {f"patches within {size:g}": int((within <= size).sum()) for size in sizes}


def _info(
    kind: Any,
    read: Source,
    options: Mapping[str, Any],
    split: str | None,
    classes: Sequence[str],
    counts: dict[str, int],
    of: str,
    rows: list[CountRow],
    notes: Sequence[str] = (),
) -> SubsetInfo:
    return SubsetInfo(
        kind=kind, options=dict(options), source=read.path.resolve().name, source_sha256=read.sha256, split=split, classes=list(classes),
        counts=counts, of=of, rows=rows, notes=list(notes),
    )  # fmt: skip


def _write(out: Path, columns: Mapping[str, Any], model: type[Record], info: SubsetInfo) -> SubsetInfo:
    table = rows_as_arrow(pd.DataFrame({name: list(values) for name, values in columns.items()}, dtype=object), model)
    with writing(out) as aside, open_writer(aside, table.schema) as writer:
        writer.write_table(table, row_group_size=ROWS_PER_GROUP)
        writer.add_key_value_metadata({SUBSET_KEY: info.model_dump_json()})
    return info


def _theme_of(read: Source, nomenclature: str | None) -> dict[str, str]:
    """Class to the CORINE level-1 group of its codes, or of most of them; in the groups' order."""
    if read.workspace is not None and nomenclature is None:
        recipe = load_recipe(read.workspace.recipe)
        known, codes = nomenclature_of(recipe), labels.label_source(recipe.labels.source).codes
    else:
        name = nomenclature or _NOMENCLATURE
        known, codes = labels.load_nomenclature(name), None if name.startswith(("clc-", "bigearthnet-")) else name
    themes = labels.load_nomenclature(_THEMES, codes)
    found = {}
    for each in known.classes:
        names = [themes.class_of_code[code] for code in each.codes if code in themes.class_of_code]
        if names:
            found[each.name] = max(names, key=names.count)
    order = [each.name for each in themes.classes]
    return dict(sorted(found.items(), key=lambda pair: order.index(pair[1])))


def _climates(patches: subsets.Patches, read: Source, facts: Path | None) -> npt.NDArray[np.object_]:
    path = facts if facts is not None else read.workspace.facts if read.workspace is not None else None
    if path is None:
        raise SubsetError("climates are read from a dataset's facts; name the file, or leave climate out")
    known = read_table(path, PatchFacts, ["patch_id", "climate"]).set_index("patch_id")["climate"].to_dict()
    found = [known.get(each) for each in patches.ids]
    if lacking := [each for each, climate in zip(patches.ids, found, strict=True) if climate is None]:
        raise SubsetError(
            f"{path} tells no climate of {len(lacking)} patches, {lacking[0]} among them; build with `captions.climate` or leave it out",
            patches=lacking,
        )
    return np.array(found, object)

"""Verbs on subsets: manifests of label noise, few patches, clients and strata, and pruning; no pixel is touched."""

import json
from pathlib import Path
from typing import Annotated

import typer

from rsdata import steps
from rsdata.commands.console import AsJson, bar, new_table, out, print_counts
from rsdata.errors import SubsetError

app = typer.Typer(no_args_is_help=True, help="Label noise, few-shot and nested subsets, clients and pruning, as manifests over patches.")

Source = Annotated[Path, typer.Argument(help="A built dataset, a shard, or a Parquet file with patch_id and labels.")]
Out = Annotated[Path, typer.Option("--out", help="Parquet file to write.")]
Seed = Annotated[int, typer.Option(help="Another seed, another choice.")]
OfSplit = Annotated[str, typer.Option("--split", help="Whose patches: train, validation, test or all.")]
_MOST_COLUMNS = 8  # of a printed table; JSON and the file hold all


@app.command()
def noise(
    source: Source,
    out_path: Out,
    kind: Annotated[str, typer.Option(help="additive, subtractive or mixed.")] = "mixed",
    rate: Annotated[float, typer.Option(help="Share of each class's entries that is flipped, 0 to 1.")] = 0.1,
    seed: Seed = 0,
    split: OfSplit = "train",
    as_json: AsJson = False,
) -> None:
    """Labels with exactly so much noise in every class; the clean ones stay beside them."""
    _print(steps.make_noise(source, out_path, kind=kind, rate=rate, seed=seed, split=_split(split)), as_json)


@app.command("few-shot")
def few_shot(
    source: Source,
    out_path: Out,
    k: Annotated[str, typer.Option("--k", help="Patches per class, such as 1,5,10; smaller ones lie inside larger.")] = "1,5,10",
    seed: Seed = 0,
    split: OfSplit = "train",
    as_json: AsJson = False,
) -> None:
    """So few patches that every class has at least k."""
    counts = [int(each) for each in _numbers(k, whole=True)]
    _print(steps.make_few_shot(source, out_path, counts=counts, seed=seed, split=_split(split)), as_json)


@app.command()
def nested(
    source: Source,
    out_path: Out,
    shares: Annotated[str, typer.Option(help="Such as 0.01,0.1,0.5; smaller ones lie inside larger.")] = "0.01,0.1,0.5",
    seed: Seed = 0,
    split: OfSplit = "train",
    as_json: AsJson = False,
) -> None:
    """Shares of the patches, with the classes' shares of the whole."""
    _print(steps.make_nested(source, out_path, shares=_numbers(shares), seed=seed, split=_split(split)), as_json)


@app.command()
def clients(
    source: Source,
    out_path: Out,
    by: Annotated[str, typer.Option(help="iid, country, season, tile, dirichlet or modality.")] = "iid",
    number: Annotated[int | None, typer.Option("--clients", help="3, or one per group, if absent.", min=1)] = None,
    alpha: Annotated[float, typer.Option(help="Of dirichlet: small for clients that differ much.")] = 0.5,
    least: Annotated[int, typer.Option(help="Of dirichlet: patches that every client has.", min=1)] = 1,
    modalities: Annotated[str, typer.Option(help="Sensors of the clients in turn, such as s1,s2,s1+s2.")] = "",
    picture: Annotated[Path | None, typer.Option(help="Also draw each client's shares of classes: a path ending in .svg or .png.")] = None,
    seed: Seed = 0,
    split: OfSplit = "train",
    as_json: AsJson = False,
) -> None:
    """Which client of a federation holds each patch, and which sensors it has."""
    info = steps.make_clients(
        source, out_path, by=by, clients=number, alpha=alpha, least=least, modalities=_listed(modalities), seed=seed,
        split=_split(split), picture=picture,
    )  # fmt: skip
    _print(info, as_json)


@app.command()
def strata(
    source: Source,
    out_path: Out,
    by: Annotated[str, typer.Option(help="climate, theme, country, season, tile or columns; separated by commas.")] = "climate,theme",
    sizes: Annotated[str, typer.Option(help="Shares of each stratum, such as 0.1, or numbers of patches of each, such as 50.")] = "0.1",
    facts: Annotated[Path | None, typer.Option(help="Parquet file with climates; the dataset's own if absent.")] = None,
    nomenclature: Annotated[str | None, typer.Option(help="Of the labels, for themes; the dataset's own, or bigearthnet-19.")] = None,
    seed: Seed = 0,
    split: OfSplit = "train",
    as_json: AsJson = False,
) -> None:
    """The same share, or number, of the patches of every stratum, such as climate by theme."""
    info = steps.make_strata(
        source, out_path, sizes=_numbers(sizes), by=_listed(by), seed=seed, split=_split(split), facts=facts, nomenclature=nomenclature
    )
    _print(info, as_json)


@app.command()
def prune(
    embeddings: Annotated[Path, typer.Argument(help="Parquet file of `rsdata subset embed`.")],
    out_path: Out,
    near: Annotated[float | None, typer.Option(help="Leave out patches whose cosine to a kept one is at least this.")] = None,
    keep: Annotated[int | None, typer.Option(help="Keep so many that differ most.", min=1)] = None,
    split: OfSplit = "train",
    as_json: AsJson = False,
) -> None:
    """A keep-list without near-duplicates, or of the patches that differ most, by embeddings."""
    _print(steps.prune_patches(embeddings, out_path, near=near, keep=keep, split=_split(split)), as_json)


@app.command()
def embed(
    checkpoint: Annotated[Path, typer.Argument(help="model.safetensors of a trained model.")],
    directory: Annotated[Path, typer.Argument(help="A built dataset, or a shard.")],
    out_path: Out,
    split: OfSplit = "all",
    as_json: AsJson = False,
) -> None:
    """What a trained model knows of each patch before its last layer, as a table of vectors."""
    with bar("embed") as advance:
        patches, numbers = steps.embed_patches(checkpoint, directory, out_path, split=_split(split), advance=advance)
    if as_json:
        out.print_json(json.dumps({"patches": patches, "numbers": numbers, "out": str(out_path)}))
    else:
        out.print(f"{patches:,} patches, {numbers:,} numbers each, in {out_path}", soft_wrap=True)


@app.command()
def probe(
    embeddings: Annotated[Path, typer.Argument(help="Parquet file of `rsdata subset embed`, of all splits.")],
    source: Source,
    out_path: Annotated[Path | None, typer.Option("--out", help="JSON file for the scores.")] = None,
    labels: Annotated[Path | None, typer.Option(help="Other labels for train patches, as `rsdata subset noise` writes.")] = None,
    subset: Annotated[Path | None, typer.Option(help="The only train patches to learn from.")] = None,
    subset_part: Annotated[str | None, typer.Option(help="Which of its sizes or clients.")] = None,
    as_json: AsJson = False,
) -> None:
    """Fit a logistic regression per class to embeddings, and score it on the test split."""
    report = steps.probe_embeddings(embeddings, source, out=out_path, labels=labels, subset=subset, subset_part=subset_part)
    if as_json:
        out.print_json(report.model_dump_json())
        return
    table = new_table("linear probe, test split", *report.test.figures(), "chance AP macro")
    chance = report.test.chance_average_precision_macro
    table.add_row(f"{report.train_patches:,} train patches", *(f"{each:.3f}" for each in report.test.figures().values()), f"{chance:.3f}")
    out.print(table)
    table = new_table("class", "C", "AP", "positives")
    for each in report.test.classes:
        cost, precision = report.costs[each.name], each.average_precision
        table.add_row(
            each.name, "–" if cost is None else f"{cost:g}", "–" if precision is None else f"{precision:.3f}", f"{each.positives:,}"
        )
    out.print(table)


def _print(info: steps.SubsetInfo, as_json: bool) -> None:
    if as_json:
        out.print_json(info.model_dump_json())
        return
    print_counts(info.kind, info.counts)
    if info.rows:
        names = list(info.rows[0].counts)
        table = new_table(info.of, *names[:_MOST_COLUMNS])
        for row in info.rows:
            table.add_row(row.name, *(f"{row.counts[name]:,}" for name in names[:_MOST_COLUMNS]))
        out.print(table)
        if len(names) > _MOST_COLUMNS:
            out.print(f"{len(names) - _MOST_COLUMNS} more columns with --json.")
    for note in info.notes:
        out.print(f"{note[0].upper()}{note[1:]}.", soft_wrap=True)


def _split(name: str) -> str | None:
    return None if name == "all" else name


def _listed(text: str) -> list[str]:
    return [each.strip() for each in text.split(",") if each.strip()]


def _numbers(text: str, whole: bool = False) -> list[float]:
    try:
        return [int(each) if whole else float(each) for each in _listed(text)]
    except ValueError as error:
        kind = "whole numbers such as 1,5,10" if whole else "numbers such as 0.01,0.1"
        raise SubsetError(f"{text!r} cannot be read; expected {kind}", text=text) from error

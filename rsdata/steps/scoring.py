"""Predictions held to a dataset's texts, and embeddings to each other: files in, scores out."""

import csv
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from tokenize import TokenError  # of the head of an array

import numpy as np
import numpy.typing as npt

from rsdata import captions, catalog
from rsdata.errors import CaptionError
from rsdata.foreign import PARQUET_ERRORS, load_json, open_parquet
from rsdata.records import TextRow
from rsdata.workspace import Workspace

ANSWER_COLUMNS = ("output", "prediction")  # which of them holds the text; the first that is there


def score_predictions(rows: Path, predictions: Path) -> captions.Scores:
    """Hold predictions to the texts of a dataset.

    Args:
        rows: a built dataset's folder, or a Parquet table like its ``texts.parquet``.
        predictions: .jsonl, .csv or .parquet with ``row_id`` and ``output`` (or ``prediction``).

    Raises: CatalogError if the rows cannot be read; CaptionError if the predictions cannot, an id is there twice, or a
        package is not installed.
    """
    table = Workspace(rows).texts if rows.is_dir() else rows
    known = (TextRow.model_validate(row) for portion in catalog.read_portions(table, TextRow) for row in portion.to_pylist())
    return captions.score_texts(known, _predictions(predictions))


def score_retrieval(images: Path, texts: Path) -> dict[str, float]:
    """Recall of retrieval between two files of embeddings.

    Args:
        images, texts: .npz with ``vectors`` (n, feature) and ``ids`` (n,), or .npy with vectors alone, whose row numbers are ids.

    Raises: CaptionError if a file cannot be read, or the two do not fit.
    """
    (image_vectors, image_ids), (text_vectors, text_ids) = _embeddings(images), _embeddings(texts)
    return captions.retrieval_recall(image_vectors, text_vectors, image_ids, text_ids)


def _predictions(path: Path) -> Iterator[tuple[str, str]]:
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise CaptionError(f"{path} is none of {', '.join(_READERS)}; write the predictions as one of these", path=str(path))
    try:
        for number, row in enumerate(reader(path), start=1):
            column = next((name for name in ANSWER_COLUMNS if isinstance(row, dict) and row.get(name) is not None), None)
            row_id = row["row_id"] if column and "row_id" in row else None
            if column is None or not isinstance(row_id, str):
                raise CaptionError(
                    f"{path}, prediction {number}, has no `row_id` or no `{'` or `'.join(ANSWER_COLUMNS)}`; both have to be texts",
                    path=str(path),
                    number=number,
                )
            yield row_id, str(row[column])
    except CaptionError:
        raise
    except (*PARQUET_ERRORS, ValueError, csv.Error) as error:
        raise CaptionError(
            f"{path} cannot be read ({' '.join(str(error).split())}); write the predictions again", path=str(path)
        ) from error


def _json_lines(path: Path) -> Iterator[dict[str, object]]:
    with path.open(encoding="utf-8") as lines:
        yield from (load_json(line) for line in lines if line.strip())


def _csv_rows(path: Path) -> Iterator[dict[str, object]]:
    with path.open(encoding="utf-8-sig", newline="") as lines:
        for row in csv.DictReader(lines):
            yield dict(row)


def _parquet_rows(path: Path) -> Iterator[dict[str, object]]:
    with open_parquet(path) as table:
        for portion in table.iter_batches():
            yield from portion.to_pylist()


_READERS: dict[str, Callable[[Path], Iterator[dict[str, object]]]] = {
    ".jsonl": _json_lines,
    ".csv": _csv_rows,
    ".parquet": _parquet_rows,
}


_ARRAY_ERRORS = (OSError, ValueError, EOFError, TokenError, SystemError)  # of NumPy; the last of characters that Unicode has not


def _embeddings(path: Path) -> tuple[npt.NDArray[np.floating], list[str]]:
    """Vectors (n, feature) and their ids."""
    try:
        if path.suffix.lower() == ".npy":
            vectors = np.load(path, allow_pickle=False)
            ids = [str(number) for number in range(len(vectors))]
        elif path.suffix.lower() == ".npz":
            with np.load(path, allow_pickle=False) as held:
                vectors, named = held["vectors"], held["ids"]
                if not (isinstance(vectors, np.ndarray) and isinstance(named, np.ndarray) and named.ndim == 1):
                    raise ValueError("`vectors` or `ids` is no array")  # other members of the zip come as they are
                ids = [str(each) for each in named.tolist()]
        else:
            raise CaptionError(f"{path} is neither .npy nor .npz; write the embeddings as one of these", path=str(path))
    except (*_ARRAY_ERRORS, KeyError, zipfile.BadZipFile, zlib.error, RuntimeError) as error:
        if isinstance(error, CaptionError):
            raise
        raise CaptionError(
            f"{path} cannot be read ({' '.join(str(error).split())}); expected .npz with `vectors` (n, feature) and `ids` (n,), "
            "or .npy with vectors alone",
            path=str(path),
        ) from error
    return vectors, ids

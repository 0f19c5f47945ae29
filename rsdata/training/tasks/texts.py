"""Texts and given embeddings beside patches, as what an encoder without large parts can take in."""

import re
import zlib
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor, nn

from rsdata.errors import TrainingError
from rsdata.training.tasks.base import check_answers, read_rows

BUCKETS = 8192  # that words are hashed into; 0 is no word
MOST_WORDS = 96  # of a text; the rest is not read
_WORD = re.compile(r"[^\W_]+")


def tokens(text: str) -> list[int]:
    """Words in lower case and pairs of neighbours, hashed: the same numbers on every machine."""
    words = _WORD.findall(text.lower())[:MOST_WORDS]
    pairs = [f"{first} {second}" for first, second in pairwise(words)]
    return [zlib.crc32(each.encode()) % BUCKETS + 1 for each in [*words, *pairs]]


class WordEncoder(nn.Module):
    """Means of learned word vectors and two layers: (patch, word) int64, 0 for none, to (patch, output)."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.words = nn.EmbeddingBag(BUCKETS + 1, 128, mode="mean", padding_idx=0)
        self.layers = nn.Sequential(nn.Linear(128, 256), nn.ReLU(), nn.Linear(256, outputs))

    def forward(self, words: Tensor) -> Tensor:
        answer: Tensor = self.layers(self.words(words))
        return answer


class Captions:
    """One caption of each patch as (patch, word) int64; of several, one drawn anew in each epoch of training, else the first."""

    def __init__(self, table: Path | None, split: str | None, patch_ids: Sequence[str], training: bool) -> None:
        rows = read_texts(table)
        lists = [tokens(text) for text in rows["output"]]
        longest = max((len(each) for each in lists), default=1)
        self._tokens = np.array([each + [0] * (longest - len(each)) for each in lists], np.int64).reshape(len(lists), longest)
        at: dict[str, list[int]] = {}
        for row, patch_id in enumerate(rows["patch_id"]):
            at.setdefault(patch_id, []).append(row)
        check_answers(split, patch_ids, np.array([patch in at for patch in patch_ids], bool), f"text in {table}")
        self._rows = [at[patch] for patch in patch_ids]
        self._training = training

    def read(self, places: npt.NDArray[np.int64], turns: npt.NDArray[np.int64], epoch: int) -> Tensor:
        drawn = np.random.default_rng((epoch,)).random(len(self._rows)) if self._training else np.zeros(len(self._rows))
        rows = [self._rows[place][int(drawn[place] * len(self._rows[place]))] for place in places]
        return torch.from_numpy(self._tokens[rows])


class Embeddings:
    """A given vector for each patch, (patch, value) float32, which is never changed."""

    def __init__(self, table: Path | None, split: str | None, patch_ids: Sequence[str]) -> None:
        vectors = read_embeddings(table)
        check_answers(split, patch_ids, np.isin(patch_ids, vectors.index), f"embedding in {table}")
        self._vectors = np.stack(vectors.reindex(patch_ids).tolist()) if len(patch_ids) else np.zeros((0, 1), np.float32)

    def read(self, places: npt.NDArray[np.int64], turns: npt.NDArray[np.int64], epoch: int) -> Tensor:
        return torch.from_numpy(self._vectors[places])


def read_texts(table: Path | None) -> pd.DataFrame:
    """Captions of patches: ``patch_id`` and ``output``, in the order of the table.

    Raises: TrainingError if there are none.
    """
    rows = read_rows(table, ["output", "category"], "text retrieval")
    return rows[rows["category"] == "caption"]


def read_embeddings(table: Path | None) -> "pd.Series[npt.NDArray[np.float32]]":
    """Patch id to its vector.

    Raises: TrainingError if vectors differ in length or are not numbers.
    """
    rows = read_rows(table, ["embedding"], "retrieval by embeddings").drop_duplicates("patch_id")
    try:
        vectors = [np.asarray(each, np.float32) for each in rows["embedding"]]
    except (TypeError, ValueError) as error:
        raise TrainingError(f"the embeddings in {table} are not lists of numbers: {error}") from error
    if len({each.shape for each in vectors}) != 1 or vectors[0].ndim != 1 or not np.isfinite(vectors).all():
        raise TrainingError(f"the embeddings in {table} differ in length, or are not finite; expected one list of numbers per patch")
    return pd.Series(vectors, index=rows["patch_id"])

"""The ``import`` split: the one that somebody published, patch by patch."""

from pathlib import Path
from typing import Literal

import pandas as pd
import pyarrow.csv
from pydantic import Field

from rsdata.errors import SplitError
from rsdata.foreign import PARQUET_ERRORS, open_parquet
from rsdata.recipe import SplitPart
from rsdata.splits.strategy import Division, SplitStrategy


class Imported(SplitStrategy):
    """Look every patch up in a Parquet or CSV table with a column for its id and one for its split.

    How the table was divided is not known, so dates of one place may lie in two splits: see ``audit``.
    """

    paths = ("path",)
    drops = "not_in_split"
    divides_time = True

    path: str = Field(description="Parquet (.parquet) or CSV (.csv) file")
    id_column: str = "patch_id"
    split_column: str = "split"
    rename: dict[str, str] = Field({}, description="their name of a split to ours, such as {val: validation}")
    unmatched: Literal["refuse", "drop"] = Field("refuse", description="what becomes of patches the file does not list")

    def divide(self, table: pd.DataFrame, part: SplitPart) -> Division:
        listing = self._read()
        split = table["patch_id"].map(listing).to_numpy(object)
        lacking = pd.isna(split)
        split[lacking] = None
        if lacking.any() and self.unmatched == "refuse":
            first = str(table["patch_id"].to_numpy()[lacking].min())
            raise SplitError(
                f"{self.path} does not list {lacking.sum()} of {len(table)} patches, such as {first}; "
                "give it the table it was made for, or say `unmatched: drop`",
                unmatched=int(lacking.sum()),
            )
        used = len(set(table["patch_id"].to_numpy()[~lacking]))
        return Division(
            split,
            (
                f"{len(table) - int(lacking.sum())} of {len(table)} patches are listed, {int(lacking.sum())} are not and were dropped",
                f"{len(listing) - used} patches of the list are not in the table",
            ),
        )

    def _read(self) -> pd.Series:
        """Split of each listed patch, by id."""
        columns = [self.id_column, self.split_column]
        try:
            if Path(self.path).suffix.lower() == ".csv":
                found = pyarrow.csv.read_csv(self.path, convert_options=pyarrow.csv.ConvertOptions(include_columns=columns))
            else:
                found = open_parquet(self.path).read(columns)
            found.validate(full=True)
        except (*PARQUET_ERRORS, KeyError) as error:
            reason = " ".join(str(error).split())
            raise SplitError(f"the split {self.path} cannot be read ({reason}); expected Parquet or CSV", path=self.path) from error
        if absent := [name for name in columns if name not in found.column_names]:
            raise SplitError(f"{self.path} has no column `{'`, `'.join(absent)}`; name the right ones as `id_column` and `split_column`")
        rows = found.replace_schema_metadata(None).to_pandas().dropna().astype(str).drop_duplicates()
        if rows[self.id_column].duplicated().any():
            twice = rows.loc[rows[self.id_column].duplicated(), self.id_column].iloc[0]
            raise SplitError(f"{self.path} lists {twice} in two splits; expected each patch in one", patch_id=twice)
        return rows.set_index(self.id_column)[self.split_column].replace(self.rename)

"""The ``kfold`` split: groups of patches shared out among k folds of nearly the same size.

What a group is, another strategy says: squares of ``blocks``, countries or tiles of ``regions``, years of ``time``.
"""

from collections.abc import Callable, Mapping
from typing import Any, cast

import numpy as np
import pandas as pd
from pydantic import Field, ValidationError

from rsdata.errors import SplitError
from rsdata.recipe import SplitPart
from rsdata.splits.strategy import Division, Grouping, SplitStrategy, known_options, listed, named, share_out


class KFold(SplitStrategy):
    """``k`` folds of the groups that the strategy ``by``, with the options ``grouping``, makes.

    Folds are called fold_0, fold_1 and so on; with ``test_fold``, and ``validation_fold`` if wanted, they become
    test, validation and, all others, train. Patches in no group always train.
    """

    k: int = Field(5, ge=2)
    by: str = Field("blocks", description="strategy whose groups are kept together")
    grouping: dict[str, Any] = Field({}, description="options of that strategy")
    test_fold: int | None = Field(None, ge=0)
    validation_fold: int | None = Field(None, ge=0)

    @classmethod
    def with_paths(cls, options: Mapping[str, Any], change: Callable[[str], str]) -> dict[str, Any]:
        grouping = options.get("grouping")
        strategy = _groupings().get(str(options.get("by", "blocks")))
        if strategy is None or not isinstance(grouping, Mapping):
            return dict(options)
        return {**options, "grouping": strategy.with_paths(grouping, change)}

    def grouped_by(self) -> Grouping:
        """The strategy that makes the groups.

        Raises: SplitError if it is unknown, makes no groups, or does not know an option.
        """
        strategies = _groupings()
        if self.by not in strategies:
            raise SplitError(f"folds cannot be made by {self.by!r}; known are {listed(sorted(strategies))}", by=self.by)
        try:
            return cast(Grouping, strategies[self.by].model_validate(self.grouping))
        except ValidationError as error:
            found = error.errors()[0]
            place = ".".join(str(each) for each in found["loc"])
            raise SplitError(
                f"`grouping.{place}`: {found['msg']}; options of {self.by!r} are {known_options(strategies[self.by])}", by=self.by
            ) from error

    def divide(self, table: pd.DataFrame, part: SplitPart) -> Division:
        groups = self.grouped_by().groups(table)
        known = pd.notna(groups)
        count = len(set(groups[known].tolist()))
        if count < self.k:
            raise SplitError(f"there are only {count} groups for {self.k} folds; ask for fewer folds or make smaller groups", groups=count)
        fold = np.full(len(table), -1, np.int64)
        fold[known] = share_out(groups[known], [1 / self.k] * self.k, part.seed, largest_first=True)
        return divide_folds(fold, self.k, (), self.test_fold, self.validation_fold)


def _groupings() -> dict[str, type[SplitStrategy]]:
    from rsdata.splits import STRATEGIES  # the dict names this module too

    return {name: strategy for name, strategy in STRATEGIES.items() if issubclass(strategy, Grouping)}


def one_fold_each(groups: np.ndarray, what: str) -> tuple[np.ndarray, int, tuple[str, ...]]:
    """A fold for each group, by name: the fold of each row (-1 for none), their number, and which is which."""
    known = pd.notna(groups)
    names, number = np.unique(groups[known].astype(str), return_inverse=True)
    if len(names) < 2:
        raise SplitError(f"leaving one out needs two regions or more; by {what} there is only {listed(names.tolist()) or 'none'}")
    fold = np.full(len(groups), -1, np.int64)
    fold[known] = number
    return fold, len(names), tuple(f"fold_{index} is {name}" for index, name in enumerate(names))


def divide_folds(fold: np.ndarray, k: int, notes: tuple[str, ...], test_fold: int | None, validation_fold: int | None) -> Division:
    """Folds by name, or train, validation and test if some are picked; rows of no fold (-1) train.

    Raises: SplitError if a fold is picked that there is not, or one for both.
    """
    for option, picked in (("test_fold", test_fold), ("validation_fold", validation_fold)):
        if picked is not None and picked >= k:
            raise SplitError(f"`{option}` is {picked}, but the {k} folds are called 0 to {k - 1}", **{option: picked})
    if test_fold is not None and test_fold == validation_fold:
        raise SplitError(f"fold {test_fold} is picked for both test and validation; pick two folds")
    if test_fold is None and validation_fold is None:
        split = named(fold, [f"fold_{index}" for index in range(k)])
        split[fold < 0] = "train"
    else:
        split = np.full(len(fold), "train", object)
        split[fold == test_fold] = "test"
        split[fold == validation_fold] = "validation"
    return Division(split, notes)

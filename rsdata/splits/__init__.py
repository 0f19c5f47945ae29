"""Which split each patch falls into, and one audit of leakage and balance that all splits are held to.

A strategy is a model of its options with one name in ``STRATEGIES``. It must not depend on the order of the rows,
so that any number of workers gives the same split.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from pydantic import ValidationError

from rsdata.errors import SplitError
from rsdata.recipe import Ratios, SplitPart
from rsdata.records import SPLITS, DropReason, SplitInfo
from rsdata.splits.audit import audit
from rsdata.splits.balanced import Balanced
from rsdata.splits.blocks import Blocks
from rsdata.splits.chance import Random
from rsdata.splits.frame import Frame
from rsdata.splits.kfold import KFold
from rsdata.splits.positions import positions
from rsdata.splits.published import Imported
from rsdata.splits.regions import Regions
from rsdata.splits.strategy import Division, Grouping, SplitStrategy, known_options
from rsdata.splits.time import Time

STRATEGIES: dict[str, type[SplitStrategy]] = {
    "balanced": Balanced,
    "blocks": Blocks,
    "frame": Frame,
    "import": Imported,
    "kfold": KFold,
    "random": Random,
    "regions": Regions,
    "time": Time,
}
_FOLD = re.compile(r"fold_\d+")


@dataclass(frozen=True)
class Assignment:
    """A divided table."""

    split: pd.Series  # (n,) object named ``split``, with the table's index; None for dropped patches
    drop_reason: DropReason | None  # why those were dropped
    info: SplitInfo


def strategy_of(part: SplitPart) -> SplitStrategy:
    """The strategy a recipe names, with its options checked.

    Raises: SplitError if the strategy or an option is unknown, an option has a wrong value, or ratios are given to a
        strategy that has its own.
    """
    if part.strategy not in STRATEGIES:
        raise SplitError(f"there is no split strategy {part.strategy!r}; known are {', '.join(sorted(STRATEGIES))}", strategy=part.strategy)
    kind = STRATEGIES[part.strategy]
    try:
        strategy = kind.model_validate(part.options)
    except ValidationError as error:
        findings = [_finding(part.strategy, kind, item["loc"], item["type"], item["msg"]) for item in error.errors()]
        raise SplitError("; ".join(findings), strategy=part.strategy) from error
    if not kind.uses_ratios and part.ratios != Ratios():
        raise SplitError(
            f"strategy {part.strategy!r} does not heed ratios; leave `ratios` out or take one of "
            f"{', '.join(name for name, each in STRATEGIES.items() if each.uses_ratios)}",
            strategy=part.strategy,
        )
    return strategy


def with_paths(part: SplitPart, change: Callable[[str], str]) -> SplitPart:
    """The part with ``change`` made to every path among its options; unknown strategies and options are left as they are."""
    kind = STRATEGIES.get(part.strategy)
    return part if kind is None else part.model_copy(update={"options": kind.with_paths(part.options, change)})


def divide(table: pd.DataFrame, part: SplitPart) -> Assignment:
    """Divide patches by the strategy that a recipe names, and say how it was done.

    Args:
        table: one row per patch, at least with ``patch_id``; other columns are there for strategies that balance.
        part: the recipe's ``split``, its paths absolute.

    Returns: for each patch "train", "validation", "test" or a fold such as "fold_0"; None only where a strategy drops.
    Raises: SplitError as ``strategy_of``, if a column is missing or the strategy cannot do what is asked; CatalogError
        if an id is none.
    """
    strategy = strategy_of(part)
    if "patch_id" not in table:
        raise SplitError(f"the table has no column `patch_id`, only {', '.join(map(str, table.columns))}; splits are assigned by it")
    division = strategy.divide(table, part) if len(table) else Division(np.empty(0, object))
    split = pd.Series(division.split, index=table.index, dtype=object, name="split")
    unknown = sorted({str(name) for name in set(division.split.tolist()) if not _allowed(name, strategy)})
    if unknown or len(division.split) != len(table):
        raise SplitError(
            f"strategy {part.strategy!r} did not answer with one of {', '.join(SPLITS)} or a fold for every patch, "
            f"but with {', '.join(unknown) or 'another number of rows'}",
            strategy=part.strategy,
            unknown=unknown,
        )
    options = type(strategy).with_paths(strategy.model_dump(mode="json"), lambda path: Path(path).name)
    ratios = dict(zip(SPLITS, part.ratios.values(), strict=True)) if strategy.uses_ratios else {}
    info = SplitInfo(
        strategy=part.strategy, options=options, seed=part.seed, ratios=ratios, leaks=strategy.leaks, notes=list(division.notes)
    )
    return Assignment(split, strategy.drops, info)


def assign(table: pd.DataFrame, part: SplitPart) -> pd.Series:
    """The split of each patch alone: see ``divide``."""
    return divide(table, part).split


def _allowed(name: object, strategy: SplitStrategy) -> bool:
    if name is None:
        return strategy.drops is not None
    return name in SPLITS or (isinstance(name, str) and _FOLD.fullmatch(name) is not None)


def _finding(name: str, kind: type[SplitStrategy], place: tuple[int | str, ...], error: str, message: str) -> str:
    option = ".".join(str(each) for each in place)
    if error == "extra_forbidden" and len(place) == 1:
        return f"strategy {name!r} has no option `{option}`; known are {known_options(kind)}"
    return f"option `{option}` of strategy {name!r}: {message}" if option else f"strategy {name!r}: {message}"


__all__ = [
    "STRATEGIES",
    "Assignment",
    "Division",
    "Grouping",
    "SplitStrategy",
    "assign",
    "audit",
    "divide",
    "positions",
    "strategy_of",
    "with_paths",
]

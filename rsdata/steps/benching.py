"""How fast a shard feeds a network, beside other formats."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any


def bench_shard(
    path: Path,
    *,
    against: Sequence[str] | None,
    patches: int,
    workers: int,
    seconds: float,
    scratch: Path | None,
    advance: Callable[[int], None] = lambda n: None,
) -> Any:
    """Measure; see ``rsdata.training.benching``, which needs torch."""
    from rsdata.training.benching import bench_shard as measure

    return measure(path, against=against, patches=patches, workers=workers, seconds=seconds, scratch=scratch, advance=advance)

"""Questions about 20,000 generated maps: whether each answer is right, how balanced they are, and how fast they come.

    python tests/benchmarks/texts.py [--maps N] [--seed S]

A solver that sees only the map and the question answers every row; it shares no code with what measures facts or words
questions. Two trials: captions that share no answer with the questions, and captions that may. Then rows of 5,000 maps are made
again and written to a Parquet file for the time alone: processor time of this process, so other work on the machine disturbs little.

Exits 1 if an answer is wrong, a caption gives one away or is rejected, an answer's share is more than a point off, fewer than
20,000 rows a second come out, or the rows differ when they are made in other portions.
"""

import argparse
import hashlib
import resource
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from rsdata.captions import TextOptions, TextRows
from rsdata.catalog import writing_rows
from rsdata.records import PatchFacts, TextRow
from rsdata.testing.text_trial import Trial, around_generated, facts_and_maps, hold_trial

WANTED = 20_000  # rows per second
ALLOWED_POINTS = 1.0
TIMED = 5_000  # maps whose rows are timed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--maps", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    said = parser.parse_args()
    missed = []
    for may_answer in (False, True):
        print(f"\n{said.maps:,} maps, captions {'may answer' if may_answer else 'share no answer with'} the questions")
        missed += report(hold_trial(said.maps, said.seed, captions_may_answer=may_answer))
    missed += measure_speed(min(said.maps, TIMED), said.seed)
    print(f"\nmissed: {'; '.join(missed)}" if missed else "\nall bounds were met")
    return int(bool(missed))


def report(trial: Trial) -> list[str]:
    """Print a trial; return the bounds it misses."""
    print(f"  {trial.rows:,} rows, {trial.rows / trial.patches:.1f} a patch; {len(trial.wrong)} answered wrongly")
    print(f"  {len(trial.leaks)} answers given away by a caption, {len(trial.rejected)} captions rejected by the check")
    for each in [*trial.wrong[:5], *trial.leaks[:5], *trial.rejected[:5]]:
        print(f"    {each}")
    print(f"  {'subject':18s}{'kind':17s}{'rows':>8s}  answers")
    imbalance = trial.imbalance_points()
    for key in sorted(trial.tasks):
        total = trial.tasks[key]
        shares = ", ".join(
            f"{answer} {100 * count / total:.2f}%" for (*own, answer), count in sorted(trial.answers.items()) if tuple(own) == key
        )
        print(f"  {key[0]:18s}{key[1]:17s}{total:8,d}  {shares if key in imbalance else ''}")
    worst = max(imbalance.values(), default=0.0)
    print(f"  largest distance from equal shares: {worst:.3f} points")
    missed = [] if worst <= ALLOWED_POINTS else [f"{worst:.2f} points off balance"]
    for what, found in (("wrong answers", trial.wrong), ("answers given away", trial.leaks), ("captions rejected", trial.rejected)):
        missed += [f"{len(found)} {what}"] if found else []
    return missed


def measure_speed(maps: int, seed: int) -> list[str]:
    options = TextOptions(around_generated(), seed)
    digests, seconds = [], {"rows": 0.0, "written": 0.0}
    with tempfile.TemporaryDirectory() as folder:
        for size in (1000, 777):
            maker, path, rows = TextRows(options), Path(folder) / f"{size}.parquet", 0
            with writing_rows(path, TextRow) as writer:
                for portion in in_portions(facts_and_maps(maps, seed), size):
                    start = time.process_time()
                    table = maker.table(portion)
                    middle = time.process_time()
                    writer.append(table)
                    if size == 1000:
                        seconds["rows"] += middle - start
                        seconds["written"] += time.process_time() - start
                    rows += len(table)
            digests.append(hashlib.sha256(path.read_bytes()).hexdigest())
    rates = {name: rows / spent for name, spent in seconds.items()}
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"\n{rows:,} rows: {rates['rows']:,.0f} a second of processor time, {rates['written']:,.0f} with texts.parquet written")
    same = digests[0] == digests[1]
    print(f"peak memory {peak_mb:.0f} MB; in portions of 1,000 and 777 patches the file is {'the same' if same else 'NOT the same'}")
    missed = [] if rates["written"] >= WANTED else [f"{rates['written']:,.0f} rows a second, {WANTED:,} wanted"]
    return missed + ([] if same else ["rows depend on how patches are divided into portions"])


def in_portions(portions: Iterator[list[tuple[PatchFacts, object]]], size: int) -> Iterator[Sequence[PatchFacts]]:
    """The same facts in portions of another size."""
    waiting: list[PatchFacts] = []
    for portion in portions:
        waiting += [facts for facts, _ in portion]
        while len(waiting) >= size:
            yield waiting[:size]
            waiting = waiting[size:]
    if waiting:
        yield waiting


if __name__ == "__main__":
    sys.exit(main())

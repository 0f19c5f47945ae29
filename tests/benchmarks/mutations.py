"""How much of what is false the check of texts catches, and how much of what is true it refuses.

    python tests/benchmarks/mutations.py
    python tests/benchmarks/mutations.py --captions 200 --seed 3

Captions of generated maps, from the template captioner and from sentences worded otherwise, each put before the check as
it is and with one fact changed. The program fails if fewer than 99 % of the changes are caught or more than 1 % of the
true captions are refused, from either source.
"""

import argparse
import sys
import time

from rsdata.captions import TemplateCaptioner, check_caption
from rsdata.testing.mutations import Tally, measure

LEAST_CAUGHT = 0.99
MOST_REFUSED = 0.01


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--captions", type=int, default=1000, help="of each source")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    begin = time.process_time()
    found = measure(check_caption, TemplateCaptioner(options.seed, may_answer=True).caption, options.captions, options.seed)
    seconds = time.process_time() - begin
    missed = [source for source, tally in found.items() if show(source, tally)]
    texts = sum(tally.captions + tally.changed.total() for tally in found.values())
    print(f"\n{texts:,} texts checked in {seconds:.0f} s of processor time, making them included")
    return 1 if missed else 0


def show(source: str, tally: Tally) -> bool:
    """Print one tally; whether it misses a bound."""
    print(f"\n{source}: {tally.captions:,} true captions, {len(tally.refused)} refused ({100 * tally.refused_share:.2f} %)")
    print(f"{'changed':22} {'texts':>7} {'caught':>7}")
    for kind, count in sorted(tally.changed.items()):
        print(f"{kind:22} {count:7,} {tally.caught[kind]:7,}  {100 * tally.caught[kind] / count:6.2f} %")
    print(f"{'all':22} {tally.changed.total():7,} {tally.caught.total():7,}  {100 * tally.caught_share:6.2f} %")
    for text, findings in tally.refused[:3]:
        print(f"  refused: {text}\n           {'; '.join(findings)}")
    for kind, text in tally.missed:
        print(f"  missed ({kind}): {text}")
    return tally.refused_share > MOST_REFUSED or tally.caught_share < LEAST_CAUGHT


if __name__ == "__main__":
    sys.exit(main())

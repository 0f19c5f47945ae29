"""How many patches a second get their facts, on one core and 20,000 generated maps; and whether a slow count agrees.

    python tests/benchmarks/facts.py
    python tests/benchmarks/facts.py --reference 500     # compare each fact of 500 maps with a slow count, and time nothing

Processor time of this process is counted, not wall time, so other work on the machine disturbs little. Making the maps is
not counted. The program fails if fewer than 1,000 patches a second are reached, or a single fact differs.
"""

import argparse
import resource
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

from rsdata.captions import MapClasses, facts_digest, facts_of
from rsdata.captions.regions import measure
from rsdata.catalog import writing_rows
from rsdata.labels import load_nomenclature
from rsdata.records import PatchFacts
from rsdata.testing.reference_maps import NOMENCLATURE, edge_cases, map_row, reference_map
from rsdata.testing.slow_facts import differences, slow_facts

WANTED = 1000  # patches per second
PORTION = 1000
LEAST = 10  # pixels of a region that is listed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--maps", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--reference", type=int, metavar="MAPS", help="compare so many maps with a slow count instead")
    said = parser.parse_args()
    return compare(said.reference, said.seed) if said.reference else measure_speed(said.maps, said.seed)


def compare(maps: int, seed: int) -> int:
    """Every fact of generated maps and of all edge cases, against loops over pixels."""
    nomenclature = load_nomenclature(NOMENCLATURE)
    classes = MapClasses.of(nomenclature.classes)
    cases = {f"map {number}": (map_row(number, seed), reference_map(number, seed)) for number in range(maps)}
    cases |= {name: (map_row(number, seed), codes) for number, (name, codes) in enumerate(edge_cases().items())}
    wrong = 0
    for name, (row, codes) in cases.items():
        fast = facts_of(row, codes, classes, min_region_pixels=LEAST).model_dump()
        found = differences(fast, slow_facts(row, codes, nomenclature.class_of_code, LEAST))
        wrong += bool(found)
        for each in found[:3]:
            print(f"{name}{each}")
    print(f"{len(cases)} maps compared with a slow count, {wrong} differ in a fact")
    return int(wrong > 0)


def measure_speed(maps: int, seed: int) -> int:
    classes = MapClasses.of(load_nomenclature(NOMENCLATURE).classes)
    facts_of(map_row(0, seed), reference_map(0, seed), classes)  # compiles
    spent = dict.fromkeys(("regions and borders of the maps alone", "facts", "facts and their digests", "written as facts.parquet"), 0.0)
    regions = 0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "facts.parquet"
        with writing_rows(path, PatchFacts) as rows:
            for first in range(0, maps, PORTION):
                numbers = range(first, min(maps, first + PORTION))
                table, codes = [map_row(number, seed) for number in numbers], [reference_map(number, seed) for number in numbers]
                at = [time.process_time()]
                for each in codes:
                    measure(each, classes.index_of_code, len(classes.names))
                at.append(time.process_time())
                facts = [facts_of(row, each, classes, min_region_pixels=LEAST) for row, each in zip(table, codes, strict=True)]
                at.append(time.process_time())
                for each in facts:
                    facts_digest(each)
                at.append(time.process_time())
                rows.append(facts)
                at.append(time.process_time())
                alone, made, digested, written = (after - before for before, after in pairwise(at))
                for name, seconds in zip(spent, (alone, made, made + digested, made + digested + written), strict=True):
                    spent[name] += seconds
                regions += sum(len(each.regions) for each in facts)
        size = path.stat().st_size
    print(f"{maps:,} maps of 120 x 120 pixels, {regions / maps:.1f} listed regions each, {size / maps:.0f} bytes each in facts.parquet")
    for name, seconds in spent.items():
        print(f"{name:40} {maps / seconds:8,.0f} patches/s on one core")
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB")
    reached = maps / spent["facts and their digests"]
    if reached < WANTED:
        print(f"{reached:,.0f} patches/s are fewer than {WANTED:,}")
    return int(reached < WANTED)


if __name__ == "__main__":
    sys.exit(main())

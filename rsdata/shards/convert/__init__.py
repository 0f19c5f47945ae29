"""Published datasets of GeoTIFFs to shards: a description, a plan of every value, then bytes.

``specs`` say what a dataset looks like, ``planning`` lists its values, ``reading`` turns their files into bytes (most of
them without GDAL, see ``tiff``), and ``writing`` puts these into a shard that an interrupted run can go on with.
"""

from rsdata.shards.convert.planning import Plan, plan
from rsdata.shards.convert.specs import DatasetSpec, Option, known_datasets, load_spec
from rsdata.shards.convert.stating import Statement, statements
from rsdata.shards.convert.writing import Conversion, Labelling, convert, digest_of, labelled_rows

__all__ = [
    "Conversion",
    "DatasetSpec",
    "Labelling",
    "Option",
    "Plan",
    "Statement",
    "convert",
    "digest_of",
    "known_datasets",
    "labelled_rows",
    "load_spec",
    "plan",
    "statements",
]

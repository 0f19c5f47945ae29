"""Packed patches: their pixels in one of several formats, a manifest beside them, and an index of what is there.

``pack`` merges the parts that scenes contributed, ``repack`` rewrites shards, ``open_shard`` reads any format by its
manifest, and ``verify_shard`` compares what lies there with what the manifest says.
"""

from rsdata.shards.compression import Compression, compression_of
from rsdata.shards.formats import FORMATS, Store
from rsdata.shards.lmdb import LmdbStore
from rsdata.shards.manifest import INDEX_FILE, MANIFEST_FILE
from rsdata.shards.packing import compression_of_shard, index_rows, pack, repack, write_part
from rsdata.shards.shard import Shard, open_shard, verify_shard

__all__ = [
    "FORMATS",
    "INDEX_FILE",
    "MANIFEST_FILE",
    "Compression",
    "LmdbStore",
    "Shard",
    "Store",
    "compression_of",
    "compression_of_shard",
    "index_rows",
    "open_shard",
    "pack",
    "repack",
    "verify_shard",
    "write_part",
]

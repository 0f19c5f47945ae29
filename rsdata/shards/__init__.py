"""Packed patches: their pixels in one of several formats, a manifest beside them, and an index of what is there.

``pack`` merges the parts that scenes contributed, ``repack`` rewrites shards, ``open_shard`` reads any format by its
manifest, and ``verify_shard`` compares what lies there with what the manifest says. Time series are shards too, of
their own format: ``write_cubes`` makes one, ``open_cubes`` reads it.
"""

from rsdata.shards.compression import Compression, compression_of
from rsdata.shards.formats import FORMATS, Store
from rsdata.shards.lmdb import LmdbStore
from rsdata.shards.manifest import INDEX_FILE, MANIFEST_FILE, read_manifest
from rsdata.shards.packing import band_infos, compression_of_shard, index_rows, pack, repack, write_part
from rsdata.shards.shard import Shard, open_shard, verify_shard
from rsdata.shards.video.cubes import Cube, write_cubes
from rsdata.shards.video.groups import usual_settings
from rsdata.shards.video.repacking import repack_cubes
from rsdata.shards.video.shard import CubeShard, open_any, open_cubes

__all__ = [
    "FORMATS",
    "INDEX_FILE",
    "MANIFEST_FILE",
    "Compression",
    "Cube",
    "CubeShard",
    "LmdbStore",
    "Shard",
    "Store",
    "band_infos",
    "compression_of",
    "compression_of_shard",
    "index_rows",
    "open_any",
    "open_cubes",
    "open_shard",
    "pack",
    "read_manifest",
    "repack",
    "repack_cubes",
    "usual_settings",
    "verify_shard",
    "write_cubes",
    "write_part",
]

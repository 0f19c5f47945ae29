"""Time series of patches as video: small, bounded in error, and readable frame by frame.

``encode`` makes one self-describing blob of a cube (time, band, y, x); ``Clip`` reads any frames and bands of it.
"""

from rsdata.shards.video.choosing import encode_any
from rsdata.shards.video.decoding import Clip
from rsdata.shards.video.encoding import encode
from rsdata.shards.video.settings import VideoSettings

__all__ = ["Clip", "VideoSettings", "encode", "encode_any"]

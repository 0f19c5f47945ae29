"""A clip as .mkv for ordinary players: the same packets, not coded again, in the container that players know.

One track per HEVC stream. A track's three planes are components, not colours, so a player shows their structure in false
colours; what they mean is in the tag ``RSDATA_VIDEO``, the clip's own header.
"""

import io
from fractions import Fraction
from pathlib import Path

from rsdata.errors import ShardError
from rsdata.shards.video.container import unit_of
from rsdata.shards.video.decoding import Clip

TAG = "RSDATA_VIDEO"


def export_mkv(clip: Clip, blob: bytes, path: Path, *, frames_per_second: int = 2) -> None:
    """Write every HEVC stream of a clip as one track.

    Raises: ShardError if a group of bands is coded as stills, which would be missing, or a file is there already.
    """
    try:
        import av
    except ImportError as error:
        raise ShardError("writing .mkv needs PyAV, which is not installed; install rsdata[video]", package="av") from error
    head = clip.head
    stills = [head.header.bands[band] for group in head.header.groups if group.codec != "hevc" for band in group.bands]
    if len(stills) == head.header.shape[1]:
        raise ShardError("this clip holds JPEG XL stills and no video, so there is nothing a player could show; code it with mode lossy")
    if stills:
        raise ShardError(
            f"{', '.join(stills)} of this clip are JPEG XL stills, which .mkv cannot hold; code it with mode lossy at a larger step",
            bands=stills,
        )
    if any(group.mixed for group in head.header.groups):
        raise ShardError("this clip's frames are mixtures of dates, which show nothing to a player; code it with mix_dates=False")
    if path.exists():
        raise ShardError(f"{path} is there already; name another file", path=str(path))
    with av.open(str(path), "w", format="matroska") as output:
        output.metadata[TAG] = head.header.model_dump_json(exclude_defaults=True)
        streams = {}
        seen = dict.fromkeys(range(len(head.header.groups)), 0)
        for at, (number, _, stream) in enumerate(head.streams):
            opening = unit_of(head.places[0][head.first_stream + at], lambda a, b: blob[a:b])
            # The muxer learns of the parameter sets from a stream that was read, and from nothing else.
            with av.open(io.BytesIO(head.tables[number].extradata[seen[number]] + opening), format="hevc") as raw:
                track = output.add_stream_from_template(raw.streams.video[0])
            track.metadata["title"] = f"group {number}, planes {stream.first} to {stream.first + stream.planes - 1}"
            streams[at] = track
            seen[number] += 1
        for segment, places in enumerate(head.places):
            first = segment * head.header.keyint
            for at, track in streams.items():
                place = places[head.first_stream + at]
                data, start = unit_of(place, lambda a, b: blob[a:b]), 0
                for order, (size, frame) in enumerate(zip(place.sizes, place.frames, strict=True)):
                    packet = av.Packet(data[start : start + size])
                    packet.stream, packet.time_base = track, Fraction(1, frames_per_second)
                    packet.pts, packet.dts = first + frame, first + order - 2
                    packet.is_keyframe = order == 0
                    output.mux(packet)
                    start += size

"""The blob: what it says of itself, that damage is named, and that nothing in it can crash or exhaust a reader."""

import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("av")
pytest.importorskip("imagecodecs")

from rsdata.errors import ShardError
from rsdata.shards.video import Clip, VideoSettings, encode, hevc, masks, stills
from rsdata.shards.video.container import DICTIONARY, EXTRADATA_DICTIONARY, parse
from rsdata.shards.video.decoding import needed
from rsdata.shards.video.export import TAG, export_mkv

sys.path.insert(0, str(Path(__file__).parent / "benchmarks"))
from video_fuzz import fuzz


def cube(frames: int = 6, bands: int = 4) -> np.ndarray:
    rng = np.random.default_rng(3)
    ground = np.cumsum(rng.normal(0, 20, (32, 40)), axis=1) + 3000
    return np.rint(ground * np.linspace(0.7, 1.2, bands)[:, None, None] + rng.normal(0, 10, (frames, bands, 32, 40))).astype(np.uint16)


@pytest.fixture(scope="module")
def blob() -> bytes:
    return encode(cube(), VideoSettings(mode="lossy", step=60.0, keyint=3), ["B02", "B03", "B04", "B08"])


def test_the_header_says_what_another_reader_needs(blob):
    header = Clip(blob).header
    assert (header.shape, header.dtype, header.bands, header.keyint) == ((6, 4, 32, 40), "uint16", ["B02", "B03", "B04", "B08"], 3)
    (group,) = header.groups
    assert (group.codec, group.pixel_format, group.transform, group.step) == ("hevc", "yuv444p12", "klt", 60.0)
    assert [(stream.first, stream.planes) for stream in group.streams] == [(0, 3), (3, 1)]
    decoded = Clip(blob).read().astype(float)
    assert header.measured.max_abs_error == np.abs(decoded - cube()).max()
    assert header.measured.psnr_db == pytest.approx(20 * np.log10(np.ptp(cube()) / np.sqrt(((decoded - cube()) ** 2).mean())), abs=0.01)


def test_a_reader_written_from_the_documentation_alone_decodes_the_first_frame(blob):
    """docs/video.md step by step, with zlib, json and PyAV only."""
    import json

    import av

    magic, version, text_bytes, index_bytes, table_bytes, crc = struct.unpack_from("<4sBIIII", blob)
    assert (magic, version, crc) == (b"\x89RSV", 1, zlib.crc32(blob[21 : 21 + text_bytes + index_bytes + table_bytes]))
    header = json.loads(zlib.decompressobj(zdict=DICTIONARY).decompress(blob[21 : 21 + text_bytes]))
    index = blob[21 + text_bytes : 21 + text_bytes + index_bytes]
    numbers, value, shift = [], 0, 0
    for byte in zlib.decompress(index[:-16]):  # two segments of two streams, a checksum of four bytes each
        value, shift = value | (byte & 127) << shift, shift + 7
        if byte < 128:
            numbers.append(value)
            value = shift = 0
    (group,) = header["groups"]
    tables = blob[21 + text_bytes + index_bytes : 21 + text_bytes + index_bytes + table_bytes]
    matrix = np.frombuffer(tables[: 4 * 16], "<f4").reshape(4, 4)
    bias = np.frombuffer(tables[64:80], "<f4")
    sets = zlib.decompressobj(zdict=EXTRADATA_DICTIONARY).decompress(tables[80:])
    at, components = 21 + text_bytes + index_bytes + table_bytes, []
    for stream in group["streams"]:
        decoder = av.CodecContext.create("hevc", "r")
        decoder.extradata, sets = sets[: stream["extradata_bytes"]], sets[stream["extradata_bytes"] :]
        frames = {}
        for _ in range(3):
            size, frame = numbers.pop(0), numbers.pop(0)
            packet = av.Packet(blob[at : at + size])
            packet.pts = frame
            frames |= {each.pts: each for each in decoder.decode(packet)}
            at += size
        frames |= {each.pts: each for each in decoder.decode(None)}
        order = stream.get("order") or list(range(stream["planes"]))
        for plane in range(stream["planes"]):
            picture = frames[0].planes[order[plane]]
            codes = np.frombuffer(picture, np.uint16).reshape(-1, picture.line_size // 2)[:32, :40]
            scale = stream["scales"][plane % len(stream["scales"])]
            components.append(codes * np.float32(scale) + np.float32(stream["offsets"][plane]))
    low, high = (np.array(group[name])[:, None, None] for name in ("low", "high"))
    bands = np.repeat(bias[:, None, None], 32, axis=1).repeat(40, axis=2)
    for component, weights in zip(components, matrix, strict=True):
        bands += component * weights[:, None, None]
    assert np.array_equal(np.clip(np.rint(bands), low, high), Clip(blob).read([0])[0])


def test_the_documentation_holds_both_dictionaries_to_the_byte():
    text = (Path(__file__).parents[1] / "docs" / "video.md").read_text(encoding="utf-8")
    words, sets = (part.split("```")[0].replace("\n", "") for part in text.split("```text\n")[1:3])
    assert words.encode() == DICTIONARY
    assert bytes.fromhex(sets) == EXTRADATA_DICTIONARY


@pytest.mark.parametrize("at", [0, 1, 4, 12, 20, 60, 300, -1])
def test_a_blob_cut_short_is_refused(blob, at):
    with pytest.raises(ShardError, match=r"cut short|damaged"):
        Clip(blob[:at]).read()


@pytest.mark.parametrize("at", [0, 4, 9, 30, 200])
def test_a_changed_head_is_refused(blob, at):
    with pytest.raises(ShardError, match=r"no video blob|of version|head|damaged"):
        Clip(blob[:at] + bytes([blob[at] ^ 0x41]) + blob[at + 1 :])


def test_a_damaged_packet_costs_its_segment_and_no_other(blob):
    clip = Clip(blob)
    place = clip.head.places[1][0]
    damaged = Clip(blob[: place.start + 5] + b"\0\0" + blob[place.start + 7 :])
    assert np.array_equal(damaged.read([0, 1, 2]), clip.read([0, 1, 2]))
    with pytest.raises(ShardError, match="do not match their checksum"):
        damaged.read([3])
    with pytest.raises(ShardError, match="do not match their checksum"):
        damaged.check()
    clip.check()


def test_a_cube_that_would_be_larger_than_allowed_is_refused_unread(blob):
    with pytest.raises(ShardError, match="larger than the 0 MiB that are allowed"):
        Clip(blob, max_bytes=6 * 4 * 32 * 40 * 2 - 1)
    assert Clip(blob, max_bytes=6 * 4 * 32 * 40 * 2).shape == (6, 4, 32, 40)


def test_a_zip_bomb_in_a_mask_is_refused():
    with pytest.raises(ShardError, match="holds more than"):
        masks.decode(zlib.compress(bytes(10**7)), [1], (1, 1, 16, 16))


def test_a_still_that_claims_another_size_never_reaches_the_decoder(monkeypatch):
    small, large = stills.encode(np.zeros((1, 16, 16), np.uint16)), stills.encode(np.zeros((1, 4000, 3000), np.uint16))
    assert [stills.image_size(each) for each in (small, large)] == [(16, 16), (4000, 3000)]
    monkeypatch.setattr(stills._imagecodecs(), "jpegxl_decode", lambda *_, **__: pytest.fail("decoded"))
    with pytest.raises(ShardError, match="another size"):
        stills.decode(large, (1, 16, 16), np.dtype(np.uint16))


@pytest.mark.parametrize(("rows", "columns"), [(16, 16), (20, 20), (101, 100), (75, 141), (8, 2056), (600, 800), (90, 160)])
def test_the_size_of_a_still_is_read_from_its_first_bytes(rows, columns):
    assert stills.image_size(stills.encode(np.zeros((1, rows, columns), np.uint16))) == (rows, columns)


def test_a_decoder_that_meets_nonsense_says_so_in_one_sentence():
    with pytest.raises(ShardError, match="a video stream is damaged"):
        hevc.decode(b"", [hevc.Packet(b"nonsense", 0)], [0], (1, 16, 16))
    with pytest.raises(ShardError, match="another size|a still is damaged"):
        stills.decode(b"\xff\x0anonsense", (1, 16, 16), np.dtype(np.uint16))


@pytest.mark.parametrize("package", ["av", "imagecodecs"])
def test_a_missing_codec_names_the_extra_to_install(package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ShardError, match=r"install rsdata\[video\]"):
        encode(cube(), VideoSettings(mode="lossy", step=60.0) if package == "av" else VideoSettings())


def test_a_build_without_the_encoder_is_named(monkeypatch):
    import av

    def create(name: str, mode: str) -> None:
        raise av.codec.codec.UnknownCodecError(name)

    monkeypatch.setattr(av, "CodecContext", type("CodecContext", (), {"create": staticmethod(create)}))
    with pytest.raises(ShardError, match="no x265 encoder"):
        encode(cube(), VideoSettings(mode="lossy", step=60.0))


def test_a_frame_stands_on_its_segment_and_a_band_on_its_streams():
    head = parse(encode(cube(6, 6), VideoSettings(keyint=2)))
    assert needed(head, [3], [0]) == [head.places[1][0]]
    assert needed(head, [3, 5], [4]) == [head.places[1][1], head.places[2][1]]


def test_masks_cost_little_and_come_back():
    classes = np.zeros((6, 1, 32, 40), np.uint8)
    classes[:, :, 5:20, 8:30] = masks.NODATA
    classes[2, :, 3, 3] = masks.NAN
    data = masks.encode(classes, [1, 2])
    assert len(data) < 100
    assert np.array_equal(masks.decode(data, [1, 2], classes.shape), classes)


def test_two_hundred_damaged_blobs_decode_or_are_refused():
    counts, findings = fuzz(200, seed=1)
    assert findings == []
    assert counts["decoded"] + counts["refused"] == 200
    assert counts["refused"] > 50 and counts["decoded"] > 5


def test_an_export_plays_the_same_frames(blob, tmp_path):
    import av

    path = tmp_path / "clip.mkv"
    export_mkv(Clip(blob), blob, path)
    head = Clip(blob).head
    with av.open(str(path)) as played:
        assert TAG in played.metadata
        assert [(stream.codec_context.name, stream.codec_context.pix_fmt) for stream in played.streams.video] == [
            ("hevc", "yuv444p12le"),
            ("hevc", "gray12le"),
        ]
        frames = list(played.decode(video=0))
    assert len(frames) == 6
    place = head.places[0][0]
    packets = [hevc.Packet(blob[place.start : place.start + place.sizes[0]], place.frames[0])]
    first = hevc.decode(head.tables[0].extradata[0], packets, [0], (3, 32, 40))[0]
    luma = frames[0].planes[0]
    assert np.array_equal(np.frombuffer(luma, np.uint16).reshape(-1, luma.line_size // 2)[:32, :40], first[0])
    with pytest.raises(ShardError, match="there already"):
        export_mkv(Clip(blob), blob, path)
    exact = encode(cube(), VideoSettings())
    with pytest.raises(ShardError, match="stills and no video"):
        export_mkv(Clip(exact), exact, tmp_path / "other.mkv")

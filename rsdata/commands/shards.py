"""Verbs on shards: info, verify, bench, compress, quality."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from rsdata import steps
from rsdata.commands.console import AsJson, bar, in_bytes, new_table, out, print_counts, print_findings

app = typer.Typer(no_args_is_help=True, help="Look at shards and check them.")


@app.command("info")
def shards_info(path: Annotated[Path, typer.Argument(help="A shard's folder.")], as_json: AsJson = False) -> None:
    """What a shard holds, from its manifest."""
    manifest = steps.shard_info(path)
    if as_json:
        out.print_json(manifest.model_dump_json())
        return
    print_counts(f"{manifest.name}, {manifest.format}, {manifest.keys:,} keys", manifest.counts)
    over = manifest.statistics_over.split()[0]  # train or all
    bands = new_table("band", "sensor", "type", "pixels", "unit", "GSD (m)", f"mean ({over})", f"std ({over})")
    for band in manifest.bands:
        mean, std = (band.statistics.mean, band.statistics.std) if band.statistics else (None, None)
        shown = ("" if value is None else f"{value:.2f}" for value in (mean, std))
        gsd_m = "" if band.gsd_m is None else f"{band.gsd_m:g}"
        bands.add_row(band.name, band.sensor, band.dtype, "x".join(map(str, band.shape)), band.unit, gsd_m, *shown)
    out.print(bands)
    if manifest.video:
        out.print(video_table(manifest))


@app.command("verify")
def shards_verify(path: Annotated[Path, typer.Argument(help="A shard's folder.")], as_json: AsJson = False) -> None:
    """Compare every digest, key, band and count of a shard with its manifest; of time series, dates and packets too."""
    with bar("verify") as advance:
        manifest, findings = steps.verify_shard(path, advance)
    print_findings(f"{manifest.keys:,} keys as its manifest says", findings, as_json)


@app.command("bench")
def shards_bench(
    path: Annotated[Path, typer.Argument(help="A shard's folder.")],
    against: Annotated[
        str | None, typer.Option(help="Readers to compare with, as in npy,webdataset; `none` for none.", show_default="all installed")
    ] = None,
    patches: Annotated[int, typer.Option(min=1, help="Read the first so many; other formats get a copy of them.")] = 1024,
    workers: Annotated[int, typer.Option(min=0, help="Threads of a second run of rsdata's own reader; 0 for none.")] = 2,
    seconds: Annotated[float, typer.Option(min=0.1, help="For each reader.")] = 3.0,
    scratch: Annotated[Path | None, typer.Option(help="Where the copies lie for a while.", show_default="the system's own")] = None,
    as_json: AsJson = False,
) -> None:
    """How fast a shard is read: samples a second beside other formats, and where the time goes; of time series, dates a second."""
    readers = None if against is None else [name for name in against.split(",") if name and name != "none"]
    with bar("bench") as advance:
        found = steps.bench_shard(
            path, against=readers, patches=patches, workers=workers, seconds=seconds, scratch=scratch, advance=advance
        )
    if as_json:
        out.print_json(json.dumps(asdict(found)))
        return
    own = found.speeds[0].samples_per_s
    table = new_table("reader", "samples/s", "MB/s", "of rsdata's", title=f"{len(found.bands)} bands at {found.input_px} px, float32")
    for each in found.speeds:
        table.add_row(each.reader, f"{each.samples_per_s:,.0f}", f"{each.mb_per_s:,.0f}", f"{each.samples_per_s / own:.2f}")
    out.print(table)
    steps_table = new_table("step", "share of time")
    for step, share in found.shares.items():
        steps_table.add_row(step, f"{100 * share:.0f} %")
    out.print(steps_table)
    if found.left_out:
        out.print(f"Not installed, so not compared: {', '.join(found.left_out)}.")


_Cube = Annotated[Path, typer.Argument(help="A NetCDF file or Zarr store with variables (time, y, x) or (time, band, y, x).")]
_CubeOrShard = Annotated[
    Path, typer.Argument(help="A NetCDF file or Zarr store of series, or the folder of a shard whose patches have dates.")
]
_Variables = Annotated[
    list[str] | None, typer.Option("--variable", help="Holds measurements, may be given again.", show_default="those named after bands")
]
_Nodata = Annotated[float | None, typer.Option(help="No-data value, if the file names none.")]
_Preset = Annotated[str, typer.Option(help="Of x265, from ultrafast to slower; adaptive: as thorough as the step is fine.")]


@app.command("compress")
def shards_compress(
    source: _CubeOrShard,
    target: Annotated[Path, typer.Option("--out", help="Zarr store to write; of a shard, the folder of a video shard.")],
    mode: Annotated[str, typer.Option(help="lossless, maxerr, lossy or auto.")] = "lossless",
    max_error: Annotated[float | None, typer.Option(help="For maxerr: largest error of any sample.")] = None,
    step: Annotated[float | None, typer.Option(help="For lossy: quantiser step in counts or dB.")] = None,
    bpppb: Annotated[float | None, typer.Option(help="For auto: bits per pixel and band.")] = None,
    psnr: Annotated[float | None, typer.Option(help="For auto: dB over the cube's own range.")] = None,
    keyint: Annotated[
        int | None, typer.Option(help="Frames from one point of entry to the next.", show_default="about 24 for video")
    ] = None,
    mix_dates: Annotated[
        bool, typer.Option("--mix-dates/--no-mix-dates", help="For lossy: mix dates where that is smaller; slower to read one date.")
    ] = True,
    preset: _Preset = "adaptive",
    variables: _Variables = None,
    nodata: _Nodata = None,
    tile_px: Annotated[int, typer.Option(min=16, help="Side of a chunk.")] = steps.TILE_PX,
    s1_max_error: Annotated[float | None, typer.Option(help="Of a shard, for maxerr: Sentinel-1's own.", show_default="0.1 dB")] = None,
    s1_step: Annotated[float | None, typer.Option(help="Of a shard, for lossy: Sentinel-1's own.", show_default="1 dB")] = None,
    min_frames: Annotated[int, typer.Option(min=1, help="Of a shard: leave out places with fewer dates.")] = 1,
    workers: Annotated[int | None, typer.Option(min=1, help="Cubes coded at a time.", show_default="one per core")] = None,
    as_json: AsJson = False,
) -> None:
    """Write a dataset's series of images as video chunks of a Zarr store; xarray.open_zarr reads it.

    A shard's patches become a video shard instead: all dates of a place are one series.
    """
    if steps.is_shard(source):
        if variables or nodata is not None:
            raise typer.BadParameter(f"{source} is a shard, whose manifest says what its bands are; leave --variable and --nodata out")
        s2 = {"mode": mode, "target_bpppb": bpppb, "target_psnr_db": psnr, "keyint": keyint, "mix_dates": mix_dates, "preset": preset}
        s1 = {**s2, "max_error": s1_max_error, "step": s1_step}
        _compress_shard(source, target, {"s2": {**s2, "max_error": max_error, "step": step}, "s1": s1}, min_frames, workers, as_json)
        return
    settings = steps.video_settings(
        mode=mode,
        max_error=max_error,
        step=step,
        target_bpppb=bpppb,
        target_psnr_db=psnr,
        keyint=keyint,
        mix_dates=mix_dates,
        preset=preset,
        nodata=nodata,
    )
    with bar("compress") as advance:
        cubes = steps.compress_cubes(source, target, settings, variables=variables or (), tile_px=tile_px, workers=workers, advance=advance)
    if as_json:
        out.print_json(json.dumps([asdict(cube) for cube in cubes]))
        return
    table = new_table("variable", "mode", "bands", "from", "to", "ratio", "worst error", "PSNR (dB)")
    for each in cubes:
        psnr_db = "exact" if each.psnr_db is None else f"{each.psnr_db:.1f}"
        ratio = f"{each.raw_bytes / each.written_bytes:.1f}"
        sizes = (in_bytes(each.raw_bytes), in_bytes(each.written_bytes))
        table.add_row(each.name, each.mode, str(each.bands), *sizes, ratio, f"{each.max_abs_error:g}", psnr_db)
    out.print(table)


def _compress_shard(
    source: Path, target: Path, per_sensor: dict[str, dict[str, Any]], min_frames: int, workers: int | None, as_json: bool
) -> None:
    with bar("compress") as advance:
        manifest, failed = steps.compress_patches(source, target, per_sensor, min_frames=min_frames, workers=workers, advance=advance)
    if as_json:
        out.print_json(manifest.model_dump_json())
    else:
        print_counts(f"{manifest.name}, {manifest.format}, {manifest.keys:,} keys", manifest.counts)
        out.print(video_table(manifest))
    if manifest.left_out and not as_json:
        table = new_table("place", "why", title="Left out")
        for item in manifest.left_out:
            table.add_row(item.key, item.reason)
        out.print(table)
    if failed:
        raise typer.Exit(1)


def video_table(manifest: Any) -> Any:
    """How the groups of a shard of time series are coded."""
    table = new_table("group", "mode", "bands", "cubes", "frames", "from", "to", "ratio", "worst error", "PSNR (dB)")
    for each in manifest.video:
        psnr_db = "exact" if each.psnr_db is None else f"{each.psnr_db:.1f}"
        counts = (f"{len(each.bands)}", f"{each.cubes:,}", f"{each.frames:,}")
        sizes = (in_bytes(each.raw_bytes), in_bytes(each.coded_bytes), f"{each.raw_bytes / max(1, each.coded_bytes):.1f}")
        table.add_row(each.name, each.settings["mode"], *counts, *sizes, f"{each.max_abs_error:g}", psnr_db)
    return table


@app.command("quality")
def shards_quality(
    source: _Cube,
    against: Annotated[Path | None, typer.Option(help="Store that compress made of it; without one, several settings are tried.")] = None,
    steps_tried: Annotated[list[float] | None, typer.Option("--step", help="Quantiser step to try, may be given again.")] = None,
    max_errors: Annotated[list[float] | None, typer.Option("--max-error", help="Bound to try, may be given again.")] = None,
    variables: _Variables = None,
    nodata: _Nodata = None,
    span: Annotated[float | None, typer.Option("--range", help="For PSNR and SSIM.", show_default="largest less smallest value")] = None,
    preset: _Preset = "adaptive",
    target: Annotated[Path | None, typer.Option("--out", help="Folder for quality.json and quality.png.")] = None,
    as_json: AsJson = False,
) -> None:
    """Rate and distortion of video coding: bits, PSNR, SSIM, spectral angle and worst error, by decoding what was written."""
    with bar("quality") as advance:
        if against is not None:
            points = steps.measure_cubes(source, against, variables=variables or (), nodata=nodata, span=span)
        else:
            tried = steps_tried or ([] if max_errors else [40.0, 100.0, 250.0, 600.0])
            points = steps.rate_distortion(
                source, tried, max_errors or [], variables=variables or (), nodata=nodata, span=span, preset=preset, advance=advance
            )
    text = json.dumps([asdict(point) for point in points], indent=1)
    if target is not None:
        steps.plot_points(points, target / "quality.png")
        (target / "quality.json").write_text(text + "\n", encoding="utf-8")
    if as_json:
        out.print_json(text)
        return
    table = new_table("variable", "setting", "bits", "ratio", "PSNR (dB)", "SSIM", "angle (rad)", "worst error")
    for point in points:
        found = point.quality
        shown = ["exact" if found.psnr_db is None else f"{found.psnr_db:.2f}"]
        shown += ["" if each is None else f"{each:.4f}" for each in (found.ssim, found.spectral_angle_rad)]
        table.add_row(point.name, point.settings, f"{found.bpppb:.3f}", f"{found.ratio:.1f}", *shown, f"{found.max_abs_error:g}")
    out.print(table)
    bands = new_table("variable", "setting", "band", "PSNR (dB)", "SSIM", "RMSE", "worst error", title="Each band")
    for point in points:
        for band in point.quality.bands:
            shown = ["exact" if band.psnr_db is None else f"{band.psnr_db:.2f}", "" if band.ssim is None else f"{band.ssim:.4f}"]
            bands.add_row(point.name, point.settings, band.band, *shown, f"{band.rmse:.3g}", f"{band.max_abs_error:g}")
    out.print(bands)
    out.print(
        "bits: per pixel and band, every byte counted. PSNR and SSIM over "
        + (f"a range of {span:g}." if span else "each cube's own range.")
    )

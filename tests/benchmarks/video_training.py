"""Does training suffer from lossy coding? The demonstration's classifier on its patches as they are, and coded at the usual steps.

    python tests/benchmarks/video_training.py [--epochs N] [--seeds N] [--scale X ...] [--scratch DIR]

The demonstration is built up to its shard of patches. Its patches become two shards of time series, one exact and one lossy
at the usual quantiser step (100 counts, 1 dB), two dates a place. ResNet-18 learns the labels from all fourteen bands, date by
date, once per seed and shard, each with its own shard's statistics; a place's score is the mean over its dates. Everything else
is the same to the last random number. The test split of either is scored by macro average precision.

``--scale 8`` adds a shard at eight times the usual step, to see what harm would look like. Exits 1 if the mean over seeds at the
usual step lies below that with exact cubes by more than twice the standard error that the spread over seeds gives the difference.
"""

import argparse
import math
import statistics
import subprocess
import sys
import tempfile
import time
from importlib import resources
from pathlib import Path

import torch
import yaml
from torch import Tensor, nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from rsdata import steps
from rsdata.records import ShardManifest
from rsdata.sensors import SENTINEL1, SENTINEL2
from rsdata.shards import open_cubes
from rsdata.training import CubeDataset, Normalisation, PatchLoader
from rsdata.training.metrics import score_multilabel
from rsdata.training.models import build_model

BANDS = [*SENTINEL2.band_names, *SENTINEL1.band_names]
FRAMES, PLACES_PER_BATCH, INPUT_PX, RATE, WEIGHT_DECAY = 2, 8, 60, 0.001, 0.01
USUAL = {"s2": 100.0, "s1": 1.0}


def build(folder: Path) -> Path:
    """The demonstration's shard of patches."""
    recipe = yaml.safe_load((resources.files("rsdata.catalogs") / "recipes" / "demo.yaml").read_text(encoding="utf-8"))
    recipe.pop("training")
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False), encoding="utf-8")
    command = [sys.executable, "-m", "rsdata", "build", str(folder / "recipe.yaml"), "--out", str(folder / "demo")]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return folder / "demo" / "shards" / "lmdb"


def code(patches: Path, target: Path, scale: float) -> ShardManifest:
    """A shard of time series; exact for scale 0."""
    options = {sensor: {"mode": "lossy", "step": step * scale} if scale else {"mode": "lossless"} for sensor, step in USUAL.items()}
    return steps.compress_patches(patches, target, options, workers=2)[0]


def dates(dataset: CubeDataset, seed: int, shuffle: bool) -> PatchLoader:
    return PatchLoader(dataset, PLACES_PER_BATCH, shuffle=shuffle, seed=seed, rank=0, world_size=1, drop_last=shuffle)


def scored(network: nn.Module, dataset: CubeDataset) -> float:
    """Macro average precision of a split, each place by the mean over its dates."""
    network.eval()
    probabilities: list[Tensor] = []
    targets: list[Tensor] = []
    with torch.no_grad():
        for batch in dates(dataset, 0, shuffle=False):
            count, frames = batch.present.shape
            logits = network(batch.pixels.flatten(0, 1)).view(count, frames, -1)
            weight = batch.present[..., None].float()
            probabilities.append(((logits * weight).sum(1) / weight.sum(1)).sigmoid())
            targets.append(batch.targets.clone())
    return score_multilabel(torch.cat(probabilities), torch.cat(targets), dataset.classes, 0.0).average_precision_macro


def train(path: Path, epochs: int, seed: int) -> float:
    """Average precision on the test split after the last epoch."""
    torch.manual_seed(seed)
    with open_cubes(path) as shard:
        normalisation = Normalisation.from_manifest(shard.manifest, BANDS)
        training = CubeDataset(shard, "train", normalisation, INPUT_PX, FRAMES, augment=True, seed=seed)
        test = CubeDataset(shard, "test", normalisation, INPUT_PX, FRAMES, "all")
        network = build_model("resnet18", len(BANDS), len(training.classes))
        loader = dates(training, seed, shuffle=True)
        optimizer = AdamW(network.parameters(), lr=RATE, weight_decay=WEIGHT_DECAY)
        total, rising = epochs * len(loader), max(1, epochs * len(loader) // 10)
        schedule = LambdaLR(
            optimizer, lambda at: (at + 1) / rising if at < rising else 0.5 + 0.5 * math.cos(math.pi * (at - rising) / total)
        )
        for _ in range(epochs):
            network.train()
            for batch in loader:
                frames = batch.present.flatten()
                logits = network(batch.pixels.flatten(0, 1)[frames])
                targets = batch.targets[:, None].expand(-1, FRAMES, -1).flatten(0, 1)[frames]
                loss = nn.functional.binary_cross_entropy_with_logits(logits, targets)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
        return scored(network, test)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--scale", type=float, action="append", default=[])
    parser.add_argument("--scratch", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)  # fewer CPU seconds, and the same sums whatever the machine
    with tempfile.TemporaryDirectory(prefix="rsdata-video-training-", dir=given.scratch) as name:
        folder = Path(name)
        patches = build(folder)
        found: dict[float, list[float]] = {}
        for scale in (0.0, 1.0, *given.scale):
            manifest = code(patches, folder / f"video-{scale:g}", scale)
            for group in manifest.video:
                rate = 8 * group.coded_bytes / (group.raw_bytes / (4 if group.sensor == "s1" else 2))
                print(f"scale {scale:g} {group.name}: {group.raw_bytes / group.coded_bytes:.1f} times smaller, {rate:.2f} bits a sample, "
                      f"RMSE {group.rmse:g}, worst {group.max_abs_error:g}")  # fmt: skip
            found[scale] = []
        for seed in range(given.seeds):  # shards in turn, so that whatever else the machine does falls on all alike
            for scale, scores in found.items():
                started = time.process_time()
                scores.append(train(folder / f"video-{scale:g}", given.epochs, seed))
                print(f"seed {seed}, scale {scale:g}: AP macro {scores[-1]:.4f}, {time.process_time() - started:.0f} s of CPU", flush=True)
    spread = {scale: statistics.stdev(scores) if len(scores) > 1 else 0.0 for scale, scores in found.items()}
    for scale, scores in found.items():
        differences = [score - exact for score, exact in zip(scores, found[0.0], strict=True)]
        print(f"scale {scale:g}: {statistics.mean(scores):.4f} ± {spread[scale]:.4f}; less exact by seed: "
              + ", ".join(f"{difference:+.4f}" for difference in differences))  # fmt: skip
    lost = statistics.mean(found[0.0]) - statistics.mean(found[1.0])
    allowed = 2 * math.sqrt((spread[0.0] ** 2 + spread[1.0] ** 2) / given.seeds)
    print(f"lost at the usual step: {lost:+.4f}; allowed {allowed:.4f}")
    sys.exit(lost > allowed)


if __name__ == "__main__":
    main()

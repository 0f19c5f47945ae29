"""Do models learn what they should: a table over three seeds on the demonstration dataset, real patches by heart, scores as scikit-learn's.

    python tests/benchmarks/training.py [--out DIR] [--dataset DIR] [--epochs N]

Builds the demonstration dataset (or takes one that is built), trains on it, and exits 1 if a bound is missed. Real patches come
from the folder ``shared/data`` beside the repository, and are left out with a word where that is absent.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import pandas as pd
import torch
import yaml
from sklearn import metrics

from rsdata import steps
from rsdata.recipe import Training, load_recipe
from rsdata.records import MultilabelScores, result_rows
from rsdata.shards import open_shard
from rsdata.training import SilentProgress, load_checkpoint, predict, run_folder, train_shard
from rsdata.training.protocol import CHECKPOINT_NAME

ROOT = Path(__file__).parents[2]
T = TypeVar("T")
MARGIN = {"majority": 0.2, "linear": 0.1}  # of macro average precision, by which a model must beat a baseline
LOSS = 0.01


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="folder for what is built; a temporary one if absent")
    parser.add_argument("--dataset", type=Path, help="demonstration dataset that is built already")
    parser.add_argument("--epochs", type=int, default=30)
    arguments = parser.parse_args()
    missed = []
    with tempfile.TemporaryDirectory(prefix="rsdata-training-") as folder:
        out = arguments.out or Path(folder)
        out.mkdir(parents=True, exist_ok=True)
        dataset = arguments.dataset or timed("demonstration dataset", lambda: build(out))
        missed += timed("three seeds", lambda: three_seeds(dataset, arguments.epochs))
        shared = ROOT.parent / "shared" / "data"
        if shared.is_dir():
            missed += timed("real patches by heart", lambda: by_heart(shared, out))
        else:
            print(f"left out: real patches, as there is no {shared}")
    print("\n".join(["missed:", *missed] if missed else ["all bounds are kept"]))
    sys.exit(bool(missed))


def timed(name: str, work: Callable[[], T]) -> T:
    started, used = time.perf_counter(), time.process_time()
    print(f"--- {name}", flush=True)
    result = work()
    print(f"    {time.perf_counter() - started:.0f} s, {time.process_time() - used:.0f} s of CPU", flush=True)
    return result


def build(out: Path) -> Path:
    from rsdata.flows.build_dataset import build

    content = yaml.safe_load((ROOT / "catalogs" / "recipes" / "demo.yaml").read_text(encoding="utf-8"))
    recipe = out / "recipe.yaml"
    recipe.write_text(yaml.safe_dump({key: value for key, value in content.items() if key != "training"}), encoding="utf-8")
    build(recipe, out / "demo")
    return out / "demo"


def three_seeds(dataset: Path, epochs: int) -> list[str]:
    """Sentinel-1 and -2 against Sentinel-2 alone against baselines, and the scores against scikit-learn's."""
    workspace = steps.open_workspace(dataset)
    recipe = load_recipe(workspace.recipe)
    reports = []
    for sensors in (["s1", "s2"], ["s2"]):
        options = Training(
            model="pixel-mil",
            sensors=sensors,
            input_px=60,
            resampling="area",
            epochs=epochs,
            batch_size=16,
            learning_rate=0.01,
            seeds=[0, 1, 2],
        )
        steps.train_baseline(recipe, workspace, options)
        reports.append(steps.read_training(workspace, options.label))
    figures = list(reports[0].test)
    print("    " + " | ".join(["model", "seeds", *figures]))
    for row in result_rows(reports):
        print("    " + " | ".join([row.name, str(row.seeds or ""), *(row.figures[name] for name in figures)]))
    both, optical = (report.test["AP macro"] for report in reports)
    missed = []
    if both.mean < optical.mean - max(both.sd or 0, optical.sd or 0):
        missed.append(f"both sensors reach {both.mean:.3f}, Sentinel-2 alone {optical.mean:.3f}")
    for report in reports:
        reached = report.test["AP macro"].mean
        for baseline in report.baselines:
            bound = baseline.test.figures()["AP macro"] + MARGIN[baseline.name]
            if reached < bound:
                missed.append(f"{report.name} reaches {reached:.3f}, which is not {MARGIN[baseline.name]} above {baseline.name}")
    checkpoint = load_checkpoint(run_folder(workspace.training(reports[0].name), 0) / CHECKPOINT_NAME)
    with open_shard(workspace.shards(recipe.shards.format)) as shard:
        said = predict(checkpoint, shard, "test")
        labels = shard.index.set_index("patch_id").loc[said.patch_ids, "labels"]
    scores = reports[0].runs[0].test
    assert isinstance(scores, MultilabelScores)
    worst = furthest(said.probabilities, np.array([[name in names for name in said.classes] for names in labels]), scores)
    print(f"    scores against scikit-learn: {worst:.1e} apart at most")
    return [*missed, *([f"scores are {worst:.1e} off scikit-learn's"] if worst > 1e-6 else [])]


def furthest(probabilities: np.ndarray, targets: np.ndarray, scores: MultilabelScores) -> float:
    """The greatest difference of a score from scikit-learn's; classes absent from the split are left out, as they are in the scores."""
    present, found = targets.any(axis=0), probabilities > 0.5
    pairs = [
        (scores.average_precision_macro, metrics.average_precision_score(targets[:, present], probabilities[:, present], average="macro")),
        (scores.average_precision_micro, metrics.average_precision_score(targets, probabilities, average="micro")),
        (scores.f1_macro, metrics.f1_score(targets[:, present], found[:, present], average="macro", zero_division=0)),
        (scores.f1_micro, metrics.f1_score(targets, found, average="micro")),
    ]
    pairs += [
        (score.average_precision, metrics.average_precision_score(targets[:, index], probabilities[:, index]))
        for index, score in enumerate(scores.classes)
        if score.average_precision is not None
    ]
    return max(abs(ours - theirs) for ours, theirs in pairs)


def by_heart(shared: Path, out: Path) -> list[str]:
    """Real patches with their real labels: a loss near zero shows that nothing on the way is mixed up or lost."""
    pairs = shared / "bigearthnet_v1_pairs"
    cases = {
        "BigEarthNet v1 pairs, small-cnn": (
            "bigearthnet-v1",
            {"s1-dir": pairs / "BigEarthNet-S1-Example", "s2-dir": pairs / "BigEarthNet-S2-Example"},
            {"model": "small-cnn", "input_px": 60, "epochs": 250},
        ),
        "BigEarthNet v1 pairs, resnet18": (
            "bigearthnet-v1",
            {"s1-dir": pairs / "BigEarthNet-S1-Example", "s2-dir": pairs / "BigEarthNet-S2-Example"},
            {"model": "resnet18", "input_px": 60, "epochs": 60},
        ),
        "EuroSAT, small-cnn": (
            "eurosat-multi-spectral",
            {"dataset-dir": shared / "eurosat_ms"},
            {"model": "small-cnn", "input_px": 64, "epochs": 150},
        ),
    }
    missed = []
    for name, (dataset, folders, said) in cases.items():
        target = out / f"real-{dataset}"
        steps.convert_dataset(dataset, folders, target)  # type: ignore[arg-type]
        with open_shard(target) as shard:
            main = [sensor for sensor in shard.index["sensor"].unique() if sensor != "s1"]
            shard.index = shard.index[shard.index["sensor"].isin(main)].assign(split="train")
            used = sorted({label for labels in shard.index["labels"] for label in labels})
            patches = len(shard.index)
            options = Training.model_validate(
                {"batch_size": max(2, patches), "learning_rate": 3e-3, "weight_decay": 0.0, "augment": False} | said
            )
            report = train_shard(shard, options, out / "runs" / name, SilentProgress())
        losses = pd.Series([log.train_loss for log in report.runs[0].epochs])
        reached = int((losses < LOSS).idxmax()) + 1 if (losses < LOSS).any() else None
        print(
            f"    {name}: {patches} patches, {len(report.bands)} bands, {len(used)} of {len(report.classes)} classes; "
            f"loss {losses.iloc[0]:.3f} at first, {losses.iloc[-1]:.5f} at last, below {LOSS} from epoch {reached}"
        )
        if losses.iloc[-1] >= LOSS:
            missed.append(f"{name}: the loss is {losses.iloc[-1]:.4f} after {len(losses)} epochs")
    return missed


if __name__ == "__main__":
    torch.set_num_threads(min(2, torch.get_num_threads()))
    main()

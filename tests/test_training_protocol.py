"""How results come about: presets, seeds, resuming, parts of batches, several processes, logs, baselines."""

import csv
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from memory_shards import MemoryShard, make_shard  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402
from typer.testing import CliRunner  # noqa: E402

from rsdata.commands import app  # noqa: E402
from rsdata.errors import RecipeError, ShardError, TrainingError  # noqa: E402
from rsdata.recipe import Training, preset_names  # noqa: E402
from rsdata.records import MultilabelScores, Spread, TrainingReport, result_rows  # noqa: E402
from rsdata.training import CHECKPOINT_NAME, RUN_NAME, SilentProgress, run_folder, train_shard  # noqa: E402
from rsdata.training.baselines import score_baselines  # noqa: E402
from rsdata.training.loop import STATE_NAME, learning_rate_factor  # noqa: E402
from rsdata.training.models import DropPath, build_model  # noqa: E402
from rsdata.training.protocol import Study, spread  # noqa: E402
from rsdata.training.ranks import Ranks  # noqa: E402

TESTS = Path(__file__).parent
PATCHES = {"train": 36, "validation": 8, "test": 12}
SAID = {"model": "small-cnn", "bands": ["B11", "VV"], "input_px": 24, "epochs": 3, "batch_size": 8, "dropout": 0.2, "baselines": False}


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Threads that wait for each other on cores that others use are far slower than one."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def shard() -> MemoryShard:
    return make_shard(PATCHES)


def run(shard: MemoryShard, out: Path, **changes: object) -> TrainingReport:
    return train_shard(shard, Training.model_validate(SAID | changes), out, SilentProgress(), save_every_s=0)


def in_process(script: str, *before: str) -> subprocess.CompletedProcess[str]:
    """Run a script that finds this folder's modules, with one thread."""
    about = os.environ | {"PYTHONPATH": str(TESTS), "OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, *before, script], env=about, capture_output=True, text=True, timeout=300, check=False)


def results(folder: Path) -> tuple[bytes, dict[str, object]]:
    """The checkpoint, and what came of the run but for time."""
    content = json.loads((folder / RUN_NAME).read_text())
    for log in content["epochs"]:
        del log["seconds"]
    return (folder / CHECKPOINT_NAME).read_bytes(), content


# --- options ----------------------------------------------------------------------------------------------


def test_the_preset_holds_the_published_hyper_parameters_and_flags_come_first():
    assert "reben" in preset_names()
    options = Training.model_validate({"preset": "reben", "batch_size": 64})
    assert (options.learning_rate, options.warm_up_steps, options.dropout, options.drop_path) == (1e-3, 1000, 0.15, 0.15)
    assert (options.epochs, options.patience, options.input_px, options.resampling) == (100, 5, 120, "nearest")
    assert options.batch_size == 64
    assert Training(preset="reben").batch_size == 512
    with pytest.raises(RecipeError, match="no preset 'rben'; known are .*reben"):
        Training.parse({"preset": "rben"})


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"seeds": [1, 1]}, "names one twice"),
        ({"batch_size": 10, "accumulate": 4}, "cannot be worked on in 4 equal parts"),
        ({"task": "regression"}, "`target` is missing"),
        ({"epochs": 0}, "`epochs`"),
    ],
)
def test_options_that_cannot_be_are_refused_in_words(said, message):
    with pytest.raises(RecipeError, match=message):
        Training.parse(said)


def test_models_of_other_bands_and_tasks_have_folders_of_their_own():
    labels = [
        Training.model_validate(said).label
        for said in (
            {}, {"sensors": ["s2"]}, {"sensors": ["s1", "s2"]}, {"bands": ["B02", "VV"]}, {"task": "segmentation"}, {"task": "retrieval"},
            {"task": "regression", "target": "dem/m"}, {"preset": "reben"}, {"bands": [f"B{n}" for n in range(40)]},
        )
    ]  # fmt: skip
    assert labels[:8] == [
        "resnet18", "resnet18-s2", "resnet18-s1s2", "resnet18-B02VV", "resnet18-segmentation", "resnet18-s1-s2",
        "resnet18-regression-dem_m", "resnet18-reben",
    ]  # fmt: skip
    assert labels[8].startswith("resnet18-40bands-")
    assert len(set(labels)) == len(labels)


def test_the_warm_up_lasts_as_long_as_it_says():
    rates = [learning_rate_factor(step, 5000, 1000) for step in range(5001)]
    assert rates[0] == 1 / 1000
    assert rates[499] == 0.5
    assert rates[999] == rates[1000] == 1
    assert rates[3000] == pytest.approx(0.5)
    assert rates[5000] == pytest.approx(0)
    assert learning_rate_factor(0, 10, 0) == 1


def test_some_patches_skip_a_block_and_the_mean_stays():
    torch.manual_seed(0)
    drop, x = DropPath(0.25), torch.ones(4000, 2, 1, 1)
    kept = drop.train()(x)
    assert sorted(kept.unique().tolist()) == [0.0, pytest.approx(4 / 3)]
    assert torch.equal(kept[:, 0], kept[:, 1])
    assert float(kept.mean()) == pytest.approx(1, abs=0.05)
    assert torch.equal(drop.eval()(x), x)
    shares = [module.share for module in build_model("resnet18", 2, 3, 0.1, 0.14).modules() if isinstance(module, DropPath)]
    assert shares == pytest.approx([0.14 * block / 7 for block in range(8)])


# --- seeds ------------------------------------------------------------------------------------------------


def test_results_are_the_mean_and_the_sample_deviation_over_the_seeds(shard, tmp_path):
    report = run(shard, tmp_path, seeds=[0, 1, 2], epochs=1, bands=["VV"])
    values = [each.test.average_precision_macro for each in report.runs]
    assert len(set(values)) > 1
    mean = sum(values) / 3
    assert report.test["AP macro"].mean == pytest.approx(mean)
    assert report.test["AP macro"].sd == pytest.approx(math.sqrt(sum((value - mean) ** 2 for value in values) / 2))
    assert spread([report.runs[0].test])["AP macro"] == Spread(mean=values[0], sd=None)
    assert [run_folder(tmp_path, seed).is_dir() for seed in (0, 1, 2)] == [True] * 3
    alone = run(shard, tmp_path / "alone", seeds=[2], epochs=1, bands=["VV"])
    assert results(run_folder(tmp_path / "alone", 2)) == results(run_folder(tmp_path, 2))
    assert alone.runs[0].test == report.runs[2].test


def test_a_seed_that_is_done_is_not_trained_again_unless_an_option_changed(shard, tmp_path, monkeypatch):
    first = run(shard, tmp_path, seeds=[4], epochs=1)
    again = run(shard, tmp_path, seeds=[5, 4], epochs=1)
    assert again.runs[1] == first.runs[0]  # its seconds too
    changed = run(shard, tmp_path, seeds=[4], epochs=1, learning_rate=2e-3)
    assert changed.runs[0].key != first.runs[0].key
    assert changed.runs[0].test != first.runs[0].test


def test_training_stops_when_validation_has_not_improved(shard, tmp_path):
    report = run(shard, tmp_path, epochs=30, patience=2, bands=["VV"], learning_rate=1e-2)
    (only,) = report.runs
    ranks = [(log.validation.average_precision_macro, -log.validation.loss) for log in only.epochs]
    assert only.stopped_early
    assert len(ranks) < 30
    assert only.best_epoch == len(ranks) - 2
    assert max(ranks[-2:]) <= ranks[only.best_epoch - 1]


# --- resuming ---------------------------------------------------------------------------------------------

KILLED = """
import os, signal, sys
from pathlib import Path
import torch
from memory_shards import make_shard
from rsdata.recipe import Training
from rsdata.training import SilentProgress, train_shard
torch.set_num_threads(1)

class Killer(SilentProgress):
    def batch(self, epoch, batch, loss):
        if (epoch, batch) == {at}:
            os.kill(os.getpid(), signal.SIGKILL)

train_shard(make_shard({patches}), Training.model_validate({said}), Path({out!r}), Killer(), save_every_s=0)
"""


@pytest.mark.parametrize(("at", "accumulate"), [((2, 3), 1), ((3, 1), 2)])
def test_a_killed_run_goes_on_and_ends_as_an_undisturbed_one(shard, tmp_path, at, accumulate):
    said = SAID | {"accumulate": accumulate, "seeds": [3], "patience": 3}
    script, out = tmp_path / "killed.py", tmp_path / "killed"
    script.write_text(KILLED.format(at=at, patches=PATCHES, said=said, out=str(out)))
    died = in_process(str(script))
    assert died.returncode == -9, died.stderr
    folder = run_folder(out, 3)
    assert (folder / STATE_NAME).is_file()
    assert not (folder / CHECKPOINT_NAME).exists()

    steps = []

    class Counting(SilentProgress):
        def batch(self, epoch: int, batch: int, loss: float) -> None:
            steps.append((epoch, batch))

    train_shard(shard, Training.model_validate(said), out, Counting(), save_every_s=0)
    train_shard(shard, Training.model_validate(said), tmp_path / "undisturbed", SilentProgress())
    assert steps[0] == at  # the step it was killed in, and none before it
    assert results(folder) == results(run_folder(tmp_path / "undisturbed", 3))
    assert not (folder / STATE_NAME).exists()


def test_a_state_of_other_options_is_not_gone_on_from(shard, tmp_path):
    notes = []

    class Stopping(SilentProgress):
        def batch(self, epoch: int, batch: int, loss: float) -> None:
            if batch == 3:
                raise KeyboardInterrupt

        def note(self, text: str) -> None:
            notes.append(text)

    with pytest.raises(KeyboardInterrupt):
        train_shard(shard, Training.model_validate(SAID), tmp_path, Stopping(), save_every_s=0)
    state = run_folder(tmp_path, 0) / STATE_NAME
    assert state.is_file()
    with pytest.raises(KeyboardInterrupt):
        train_shard(shard, Training.model_validate(SAID | {"weight_decay": 0.5}), tmp_path, Stopping(), save_every_s=0)
    assert any("begins anew" in note for note in notes)
    state.write_bytes(b"damaged")
    with pytest.raises(TrainingError, match="cannot be gone on from: .*; delete it to begin anew"):
        train_shard(shard, Training.model_validate(SAID), tmp_path, SilentProgress())


# --- batches ----------------------------------------------------------------------------------------------


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / CHECKPOINT_NAME)


def furthest(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    return max(float((a[name] - b[name]).abs().max()) for name in a)


MAPS = {"task": "segmentation", "model": "small-unet", "dropout": 0.0, "epochs": 1, "batch_size": 12}


def with_gaps(shard: MemoryShard) -> MemoryShard:
    """Half of the maps have hardly a pixel with a class."""
    for key in shard.index["reference_map_key"][::2]:
        shard.values[key]["Data"][20:] = 999
    return shard


def test_a_batch_in_parts_gives_the_steps_of_the_whole(tmp_path):
    shard = with_gaps(make_shard(PATCHES))
    whole = run(shard, tmp_path / "whole", **MAPS)
    parts = run(shard, tmp_path / "parts", **MAPS, accumulate=3)
    assert parts.runs[0].epochs[0].train_loss == pytest.approx(whole.runs[0].epochs[0].train_loss, rel=1e-5)
    assert furthest(*(weights_of(run_folder(tmp_path / name, 0)) for name in ("whole", "parts"))) < 2e-5


TORCHRUN = """
import sys
from pathlib import Path
import torch
from memory_shards import make_shard
from test_training_protocol import MAPS, PATCHES, SAID, with_gaps
from rsdata.recipe import Training
from rsdata.training import SilentProgress, train_shard
torch.set_num_threads(1)
report = train_shard(with_gaps(make_shard(PATCHES)), Training.model_validate(SAID | MAPS), Path({out!r}), SilentProgress())
print("REPORT" + report.model_dump_json(), flush=True)
"""


def test_two_processes_with_half_a_batch_each_give_the_steps_of_one(tmp_path):
    alone = run(with_gaps(make_shard(PATCHES)), tmp_path / "alone", **MAPS)
    script, out = tmp_path / "shared.py", tmp_path / "shared"
    script.write_text(TORCHRUN.format(out=str(out)))
    ended = in_process(str(script), "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    assert ended.returncode == 0, ended.stderr
    found = [TrainingReport.model_validate_json(line[6:]) for line in ended.stdout.splitlines() if line.startswith("REPORT")]
    assert len(found) == 2
    assert found[0].runs == found[1].runs
    assert [path.relative_to(out).as_posix() for path in out.rglob("*.safetensors")] == [f"seed-0/{CHECKPOINT_NAME}"]
    assert found[0].runs[0].epochs[0].train_loss == pytest.approx(alone.runs[0].epochs[0].train_loss, rel=1e-5)
    assert furthest(weights_of(run_folder(out, 0)), weights_of(run_folder(tmp_path / "alone", 0))) < 2e-5


def test_batches_that_cannot_be_shared_out_are_refused(shard, tmp_path):
    from rsdata.training.checkpoint import build_network
    from rsdata.training.loop import Run

    options = Training.model_validate(SAID | {"batch_size": 9})
    study = Study(shard, options, None, Ranks())
    network = build_network("small-cnn", study.task, study.normalisation.bands)
    with pytest.raises(TrainingError, match="batches of 9 cannot be shared out to 2 processes in 1 parts each; choose a multiple of 2"):
        Run(study.task, network, study.training, study.validation, options, 0, Ranks(0, 2), tmp_path, "", 0)


def test_half_precision_learns_on_a_cpu_and_float16_is_for_gpus(shard, tmp_path):
    report = run(shard, tmp_path, precision="bfloat16", epochs=6, dropout=0.0)
    assert report.runs[0].test.average_precision_macro > 0.9
    assert {value.dtype for value in weights_of(run_folder(tmp_path, 0)).values()} == {torch.float32}
    if not torch.cuda.is_available():
        with pytest.raises(TrainingError, match="float16 is for GPUs"):
            run(shard, tmp_path / "half", precision="float16")


# --- logs -------------------------------------------------------------------------------------------------


def test_the_log_has_one_row_for_each_epoch(shard, tmp_path):
    report = run(shard, tmp_path)
    with (run_folder(tmp_path, 0) / "log.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [int(row["epoch"]) for row in rows] == [1, 2, 3]
    assert [float(row["train_loss"]) for row in rows] == [log.train_loss for log in report.runs[0].epochs]
    assert [float(row["validation AP macro"]) for row in rows] == [
        each.validation.average_precision_macro for each in report.runs[0].epochs
    ]
    assert [float(row["learning_rate"]) for row in rows] == sorted((float(row["learning_rate"]) for row in rows), reverse=True)


def test_tensorboard_shows_what_the_log_does(shard, tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    report = run(shard, tmp_path)
    board = accumulator.EventAccumulator(str(run_folder(tmp_path, 0) / "tensorboard"))
    board.Reload()
    assert [(each.step, each.value) for each in board.Scalars("train_loss")] == [
        (log.epoch, pytest.approx(log.train_loss)) for log in report.runs[0].epochs
    ]


# --- beginning with weights -------------------------------------------------------------------------------


def test_weights_are_taken_over_but_for_a_last_layer_of_another_size(shard, tmp_path):
    run(shard, tmp_path / "first", epochs=2)
    path = run_folder(tmp_path / "first", 0) / CHECKPOINT_NAME
    before = weights_of(path.parent)
    still = {"learning_rate": 1e-30, "weight_decay": 0.0, "epochs": 1, "init": str(path)}
    run(shard, tmp_path / "same", **still)
    assert furthest(before, weights_of(run_folder(tmp_path / "same", 0))) == 0
    wider = make_shard(PATCHES, classes=("Pastures", "Inland waters"))
    labels = [*wider.manifest.labels, wider.manifest.labels[0].model_copy(update={"index": 2, "name": "Marine waters"})]
    run(wider.changed({"labels": labels}), tmp_path / "wider", **still)
    after = weights_of(run_folder(tmp_path / "wider", 0))
    assert after["fc.weight"].shape == (3, 128)
    assert all(torch.equal(after[name], before[name]) for name in before if not name.startswith("fc."))


def test_weights_that_do_not_fit_are_refused_in_words(shard, tmp_path):
    run(shard, tmp_path / "first", epochs=1)
    path = run_folder(tmp_path / "first", 0) / CHECKPOINT_NAME
    with pytest.raises(TrainingError, match="is of a model fed with B11, VV; this one is fed with VV, B11"):
        run(shard, tmp_path / "order", init=str(path), bands=["VV", "B11"])
    save_file(weights_of(path.parent), tmp_path / "bare.safetensors")
    with pytest.raises(
        TrainingError, match=r"does not fit small-cnn: 1 of 14 tensors .* such as layers.0.0.weight, for which it holds \(32, 2,"
    ):
        run(shard, tmp_path / "bands", init=str(tmp_path / "bare.safetensors"), bands=["VV", "B11", "B02"])
    with pytest.raises(TrainingError, match="the init .*none.safetensors cannot be read"):
        run(shard, tmp_path / "none", init=str(tmp_path / "none.safetensors"))


# --- baselines --------------------------------------------------------------------------------------------


def test_baselines_of_classes_are_chance_and_a_logistic_regression(shard):
    metrics, linear = pytest.importorskip("sklearn.metrics"), pytest.importorskip("sklearn.linear_model")
    from sklearn.preprocessing import StandardScaler

    study = Study(shard, Training.model_validate(SAID), None, Ranks())
    majority, regression = (each.test for each in score_baselines(study.task, study.training, study.test))
    assert isinstance(majority, MultilabelScores)
    assert majority.average_precision_macro == pytest.approx(majority.chance_average_precision_macro)

    def summary(split: str) -> tuple[np.ndarray, np.ndarray]:
        rows = shard.index[shard.index["split"] == split]
        pixels = [[shard.values[s2]["B11"][::1], shard.values[s1]["VV"]] for s2, s1 in zip(rows["patch_id"], rows["s1_key"], strict=True)]
        # 24 px take the pixels under their centres: every fifth of 120, every second or third of 60
        at = {60: [int((n + 0.5) * 2.5) for n in range(24)], 120: [5 * n + 2 for n in range(24)]}
        cut = [[band[np.ix_(at[len(band)], at[len(band)])].astype(float) for band in patch] for patch in pixels]
        features = [[*(band.mean() for band in patch), *(band.std(ddof=1) for band in patch)] for patch in cut]
        return np.array(features), np.array([names == ["Inland waters"] for names in rows["labels"]])

    (train_x, train_y), (test_x, test_y) = summary("train"), summary("test")
    scaled = StandardScaler().fit(train_x)
    model = linear.LogisticRegression(max_iter=1000).fit(scaled.transform(train_x), train_y)
    expected = metrics.average_precision_score(test_y, model.predict_proba(scaled.transform(test_x))[:, 1])
    assert regression.classes[1].average_precision == pytest.approx(expected, abs=1e-6)
    assert regression.average_precision_macro > majority.average_precision_macro


def test_the_usual_answer_of_maps_is_the_commonest_class_and_of_numbers_the_mean(shard):
    maps = Study(shard, Training.model_validate(SAID | MAPS), None, Ranks())
    majority, linear = (each.test for each in score_baselines(maps.task, maps.training, maps.test))
    shares = sorted(each.pixels / majority.pixels for each in majority.classes)
    assert majority.accuracy in (pytest.approx(shares[0]), pytest.approx(shares[1]))
    assert sorted(each.iou for each in majority.classes)[0] == 0
    assert linear.miou > majority.miou
    numbers = Study(shard, Training.model_validate(SAID | MAPS | {"task": "regression", "target": "B12"}), None, Ranks())
    mean, ridge = (each.test for each in score_baselines(numbers.task, numbers.training, numbers.test))
    assert mean.r2 == pytest.approx(0, abs=0.01)
    assert mean.rmse == pytest.approx(400, rel=0.05)  # the spread of the noise
    assert ridge.r2 == pytest.approx(0, abs=0.01)  # noise cannot be told from other bands


def test_a_table_of_results_has_the_baselines_first(shard, tmp_path):
    both = run(shard, tmp_path, baselines=True, epochs=1)
    single = run(shard, tmp_path / "b", baselines=True, epochs=1, bands=["VV"], seeds=[0, 1])
    rows = result_rows([both, single])
    assert [row.name for row in rows][:2] == ["majority", "linear, bands of small-cnn-VV"] or rows[0].name.startswith("majority")
    assert {row.name for row in rows} == {"majority", "linear", "linear, bands of small-cnn-VV", "small-cnn-B11VV", "small-cnn-VV"}
    assert {row.name: row.seeds for row in rows}["small-cnn-VV"] == 2
    assert "±" in {row.name: row.figures for row in rows}["small-cnn-VV"]["AP macro"]
    assert "±" not in {row.name: row.figures for row in rows}["small-cnn-B11VV"]["AP macro"]


# --- command line -----------------------------------------------------------------------------------------


def test_training_on_a_dataset_fills_table_and_report_and_predicts(built, tmp_path):
    import shutil

    root = tmp_path / "dataset"
    shutil.copytree(built.root, root)
    call = ["train", str(root), "--model", "small-cnn", "--seeds", "0,1", "--epochs", "1", "--input-px", "24", "--option", "patience=4"]
    for more in (["--sensors", "s1,s2"], ["--sensors", "s2", "--json"]):
        result = CliRunner().invoke(app, [*call, *more])
        assert result.exit_code == 0, result.output
    report = TrainingReport.model_validate_json((root / "training" / "small-cnn-s2" / "metrics.json").read_bytes())
    assert report.options["patience"] == 4
    assert len(report.runs) == 2
    page = (root / "report" / "index.html").read_text()
    assert all(name in page for name in ("small-cnn-s1s2", "small-cnn-s2", "majority", "linear"))
    checkpoint = root / "training" / "small-cnn-s2" / "seed-1" / CHECKPOINT_NAME
    result = CliRunner().invoke(app, ["predict", str(checkpoint), str(root), "--out", str(tmp_path / "said"), "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.output[result.output.index("{") :])["patches"] == report.runs[0].test.patches


def test_training_on_a_shard_asks_where_results_go(built, tmp_path):
    shard = built.shards("lmdb")
    result = CliRunner().invoke(app, ["train", str(shard), "--model", "small-cnn"])
    assert isinstance(result.exception, RecipeError)
    assert "name a folder for the results with --out" in str(result.exception)
    call = [
        "train",
        str(shard),
        "--model",
        "small-cnn",
        "--epochs",
        "1",
        "--input-px",
        "24",
        "--bands",
        "B11",
        "--out",
        str(tmp_path / "out"),
    ]
    for _ in range(2):
        result = CliRunner().invoke(app, call)
        assert result.exit_code == 0, result.output
    assert (tmp_path / "out" / "training" / "small-cnn-B11" / "metrics.json").is_file()


def test_a_folder_without_a_shard_is_said_before_anything_is_made(tmp_path):
    result = CliRunner().invoke(app, ["train", str(tmp_path / "none"), "--out", str(tmp_path / "out")])
    assert isinstance(result.exception, ShardError)
    assert "has no manifest.json; name a shard's folder" in str(result.exception)
    assert not (tmp_path / "out").exists()

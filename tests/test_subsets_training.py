"""Manifests in training: noisy labels, subsets, embeddings, the linear probe, and the federated toy of the documentation."""

import json
import re
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

torch = pytest.importorskip("torch")

from memory_shards import MemoryShard, make_shard  # noqa: E402
from sklearn.linear_model import LogisticRegression  # noqa: E402
from sklearn.metrics import average_precision_score  # noqa: E402
from sklearn.preprocessing import StandardScaler  # noqa: E402
from typer.testing import CliRunner  # noqa: E402

from rsdata import steps  # noqa: E402
from rsdata.commands import app  # noqa: E402
from rsdata.errors import RecipeError, TrainingError  # noqa: E402
from rsdata.recipe import Training  # noqa: E402
from rsdata.records import TrainingReport  # noqa: E402
from rsdata.sensors import REFERENCE_MAP, SENTINEL1, SENTINEL2  # noqa: E402
from rsdata.shards import pack, write_part  # noqa: E402
from rsdata.training import CHECKPOINT_NAME, SilentProgress, load_checkpoint, predict, run_folder, train_shard  # noqa: E402
from rsdata.training.choosing import read_subset  # noqa: E402
from rsdata.training.embedding import write_embeddings  # noqa: E402
from rsdata.training.probing import COSTS, Known, linear_probe  # noqa: E402
from rsdata.training.protocol import Study  # noqa: E402
from rsdata.training.ranks import ranks  # noqa: E402

PAGE = Path(__file__).parents[1] / "docs" / "studies.md"
SAID = {"model": "small-cnn", "bands": ["B11"], "epochs": 4, "batch_size": 16, "input_px": 32, "learning_rate": 2e-3, "baselines": False}


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Threads that wait for each other on cores that others use are far slower than one."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def shard() -> MemoryShard:
    return make_shard({"train": 64, "validation": 24, "test": 40})


@pytest.fixture(scope="module")
def table(shard, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("table") / "patches.parquet"
    shard.index.to_parquet(path)
    return path


@pytest.fixture(scope="module")
def trained(shard, tmp_path_factory) -> tuple[TrainingReport, Path]:
    out = tmp_path_factory.mktemp("trained")
    return train_shard(shard, Training(**SAID), out, SilentProgress()), run_folder(out, 0) / CHECKPOINT_NAME


def study(shard: MemoryShard, **said: object) -> Study:
    with ranks() as group:
        return Study(shard, Training(**(SAID | said)), None, group)


# --- labels and subsets -----------------------------------------------------------------------------------


def test_a_model_learns_the_labels_of_the_file_and_is_scored_on_clean_ones(shard, table, trained, tmp_path):
    steps.make_noise(table, tmp_path / "wrong.parquet", kind="mixed", rate=1.0)  # every water is a pasture and the other way round
    options = Training(**SAID, labels=str(tmp_path / "wrong.parquet"))
    wrong = train_shard(shard, options, tmp_path / "out", SilentProgress())
    assert trained[0].test["AP macro"].mean > 0.9
    assert wrong.test["AP macro"].mean < 0.6
    assert (wrong.options["labels"], wrong.name) == ("wrong.parquet", "small-cnn-B11-wrong")


def test_only_train_patches_get_other_labels(shard, table, tmp_path):
    steps.make_noise(table, tmp_path / "wrong.parquet", kind="mixed", rate=1.0, split=None)
    clean, noisy = study(shard), study(shard, labels=str(tmp_path / "wrong.parquet"))
    assert (noisy.training.targets == 1 - clean.training.targets).all()
    assert (noisy.validation.targets == clean.validation.targets).all()
    assert (noisy.test.targets == clean.test.targets).all()
    assert noisy.key != clean.key


def test_a_subset_narrows_the_train_split_alone(shard, table, tmp_path):
    steps.make_nested(table, tmp_path / "shares.parquet", shares=[0.25, 0.5], split=None)
    rows = pq.read_table(tmp_path / "shares.parquet").to_pandas()
    train = shard.index.loc[shard.index["split"] == "train", "patch_id"]
    whole = study(shard)
    for part, size in (("0.25", 0.25), ("0.50", 0.5), (None, 0.5)):
        narrow = study(shard, subset=str(tmp_path / "shares.parquet"), subset_part=part)
        assert narrow.training.patch_ids == sorted(set(train) & set(rows.loc[rows["within"] <= size, "patch_id"]))
        assert narrow.test.patch_ids == whole.test.patch_ids


def test_the_clients_of_a_manifest_share_the_train_split_out(shard, table, tmp_path):
    steps.make_clients(table, tmp_path / "clients.parquet", by="iid", clients=3)
    parts = [read_subset(tmp_path / "clients.parquet", f"client-{each}") for each in range(3)]
    assert sorted(each for part in parts for each in part) == sorted(shard.index.loc[shard.index["split"] == "train", "patch_id"])


def test_a_keep_list_leaves_out_what_it_does_not_keep(tmp_path):
    pd.DataFrame({"patch_id": ["a", "b", "c"], "kept": [True, False, True]}).to_parquet(tmp_path / "keep.parquet")
    assert read_subset(tmp_path / "keep.parquet") == {"a", "c"}


@pytest.mark.parametrize(
    ("columns", "part", "words"),
    [
        ({"id": ["a"]}, None, "has no column patch_id; it has id"),
        ({"patch_id": ["a", "a"]}, None, "lists a patch twice"),
        ({"patch_id": ["a"]}, "0.1", "has neither `within` nor `client`"),
        ({"patch_id": ["a", "b"], "within": [0.1, 0.5]}, "0.2", "has no part '0.2'; it has 0.1, 0.5"),
        ({"patch_id": ["a"], "client": ["client-0"]}, "client-1", "has no part 'client-1'; it has client-0"),
    ],
)
def test_a_file_that_is_no_such_manifest_is_refused(tmp_path, columns, part, words):
    pd.DataFrame(columns).to_parquet(tmp_path / "m.parquet")
    with pytest.raises(TrainingError, match=re.escape(words)):
        read_subset(tmp_path / "m.parquet", part)


def test_what_cannot_be_learned_is_refused(shard, table, tmp_path):
    with pytest.raises(TrainingError, match="nowhere.parquet cannot be read"):
        study(shard, subset="nowhere.parquet")
    pd.DataFrame({"patch_id": ["a", "b"], "labels": [[], []]}).to_parquet(tmp_path / "other.parquet")
    with pytest.raises(TrainingError, match="names 2 patches, but not 64 of those to learn from"):
        study(shard, labels=str(tmp_path / "other.parquet"))
    with pytest.raises(TrainingError, match="has 0 patches that .*other.parquet names"):
        study(shard, subset=str(tmp_path / "other.parquet"))
    with pytest.raises(RecipeError, match="learned by multilabel, not by segmentation"):
        Training.parse({"labels": "noise.parquet", "task": "segmentation"})
    with pytest.raises(RecipeError, match="a part of no file"):
        Training.parse({"subset_part": "0.1"})


# --- embeddings and the linear probe ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def embeddings(shard, trained, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("embeddings") / "embeddings.parquet"
    patches, _ = write_embeddings(load_checkpoint(trained[1]), shard, None, path)
    assert patches == 128
    return path


def test_the_last_layer_turns_embeddings_into_the_model_s_own_answers(shard, trained, embeddings):
    rows = pq.read_table(embeddings).to_pandas()
    rows = rows[rows["split"] == "test"]
    checkpoint = load_checkpoint(trained[1])
    own = predict(checkpoint, shard, "test")
    assert rows["patch_id"].tolist() == own.patch_ids
    with torch.inference_mode():
        answers = checkpoint.network.get_submodule("fc")(torch.from_numpy(np.stack(rows["embedding"]))).sigmoid().numpy()
    np.testing.assert_allclose(answers, own.probabilities, atol=1e-5)


def test_the_probe_finds_what_the_features_hold_and_learns_wrong_labels_too(embeddings, table, tmp_path):
    report = steps.probe_embeddings(embeddings, table, out=tmp_path / "probe.json")
    assert (report.train_patches, report.validation_patches, report.test.patches) == (64, 24, 40)
    assert report.test.average_precision_macro > 0.9
    assert json.loads((tmp_path / "probe.json").read_text())["test"]["patches"] == 40
    steps.make_noise(table, tmp_path / "wrong.parquet", kind="mixed", rate=1.0)
    assert steps.probe_embeddings(embeddings, table, labels=tmp_path / "wrong.parquet").test.f1_macro < 0.2
    steps.make_few_shot(table, tmp_path / "few.parquet", counts=[2, 5])
    few = steps.probe_embeddings(embeddings, table, subset=tmp_path / "few.parquet", subset_part="2")
    assert few.train_patches == 4  # two of each of two classes that exclude each other


def test_the_probe_is_what_scikit_learn_gives_class_by_class():
    random = np.random.default_rng(0)

    def known(count: int) -> Known:
        x = random.normal(size=(count, 6))
        y = np.stack([x[:, 0] + random.normal(size=count) > 0, x[:, 1] * x[:, 2] > 0.5, np.zeros(count, bool)], axis=1)
        return Known(x, y)

    train, validation, test = known(120), known(80), known(80)
    report = linear_probe(train, validation, test, ["first", "second", "never"])
    scaler = StandardScaler().fit(train.features)
    for index, name in enumerate(("first", "second")):
        models = [LogisticRegression(C=cost, max_iter=500).fit(scaler.transform(train.features), train.targets[:, index]) for cost in COSTS]
        on_validation = [
            average_precision_score(validation.targets[:, index], m.predict_proba(scaler.transform(validation.features))[:, 1])
            for m in models
        ]
        best = int(np.argmax(on_validation))
        answers = models[best].predict_proba(scaler.transform(test.features))[:, 1]
        assert report.costs[name] == COSTS[best]
        assert report.test.classes[index].average_precision == pytest.approx(
            average_precision_score(test.targets[:, index], answers), abs=1e-6
        )
    assert report.costs["never"] is None
    with pytest.raises(TrainingError, match="no embeddings of validation patches"):
        linear_probe(train, Known(np.empty((0, 6)), np.empty((0, 3), bool)), test, ["first", "second", "never"])


# --- the command line -------------------------------------------------------------------------------------


def test_verbs_go_from_a_shard_on_disk_to_a_trained_model_a_probe_and_a_keep_list(shard, tmp_path):
    write_part(tmp_path / "part", shard.values)
    pack(
        tmp_path / "lmdb", [tmp_path / "part"], name="disk", index=shard.index, sensors=(SENTINEL2, SENTINEL1, REFERENCE_MAP), offsets={},
        quantification=10_000, labels=shard.manifest.labels, unlabeled_codes=[999], recipe_sha256="0" * 64,
    )  # fmt: skip

    def run(*arguments: object) -> dict[str, Any]:
        result = CliRunner().invoke(app, [*map(str, arguments), "--json"])
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    noise = run("subset", "noise", tmp_path / "lmdb", "--rate", 0.1, "--out", tmp_path / "noise.parquet")
    assert noise["classes"] == ["Pastures", "Inland waters"]  # in the order of the shard's table
    run("subset", "few-shot", tmp_path / "lmdb", "--k", "10", "--out", tmp_path / "few.parquet")
    report = run(
        "train", tmp_path / "lmdb", "--out", tmp_path / "out", "--model", "small-cnn", "--bands", "B11", "--epochs", 2, "--input-px", 32,
        "--labels", tmp_path / "noise.parquet", "--subset", tmp_path / "few.parquet", "--subset-part", 10, "--no-baselines",
    )  # fmt: skip
    assert report["name"] == "small-cnn-B11-noise-few-10"
    checkpoint = tmp_path / "out" / "training" / report["name"] / "seed-0" / CHECKPOINT_NAME
    assert run("subset", "embed", checkpoint, tmp_path / "lmdb", "--out", tmp_path / "e.parquet")["patches"] == 128
    assert run("subset", "probe", tmp_path / "e.parquet", tmp_path / "lmdb")["train_patches"] == 64
    assert run("subset", "prune", tmp_path / "e.parquet", "--keep", 12, "--out", tmp_path / "keep.parquet")["counts"]["kept"] == 12
    assert len(read_subset(tmp_path / "keep.parquet")) == 12


# --- the documentation ------------------------------------------------------------------------------------


def test_the_federated_toy_of_the_documentation_learns_from_client_manifests(shard, table, tmp_path):
    (toy,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)
    assert len(toy.splitlines()) <= 60
    names: dict[str, Any] = {"__name__": "toy"}
    exec(toy, names)
    steps.make_clients(table, tmp_path / "clients.parquet", by="dirichlet", clients=3, alpha=1.0, least=8)
    toy_on = partial(names["federated_averaging"], shard, tmp_path / "clients.parquet", ["B11", "VV"], seed=2)
    before, after = (toy_on(rounds=rounds)[1] for rounds in (0, 4))
    assert after.chance_average_precision_macro == pytest.approx(0.5, abs=0.1)
    assert before.average_precision_macro < 0.6
    assert after.average_precision_macro > 0.9


def test_the_documentation_names_every_verb_and_partition():
    from rsdata.commands.subset import app as verbs_of_subset
    from rsdata.subsets import NOISES, PARTITIONS

    text = PAGE.read_text(encoding="utf-8")
    verbs = [command.name or command.callback.__name__ for command in verbs_of_subset.registered_commands]
    assert [verb for verb in verbs if f"rsdata subset {verb} " not in text] == []
    assert [name for name in (*NOISES, *PARTITIONS) if f"`{name}`" not in text] == []

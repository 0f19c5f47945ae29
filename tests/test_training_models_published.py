"""Weights from elsewhere: published reBEN checkpoints, whose bands and classes go by name, and what is never opened.

No published file is at hand, so files of the same layout are made here, with random weights.
"""

import json
import pickle
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from memory_shards import make_shard  # noqa: E402
from safetensors.torch import save_file  # noqa: E402

from rsdata.errors import TrainingError  # noqa: E402
from rsdata.labels import load_nomenclature  # noqa: E402
from rsdata.recipe import Training  # noqa: E402
from rsdata.training import CHECKPOINT_NAME, SilentProgress, load_checkpoint, run_folder, score, train_shard  # noqa: E402
from rsdata.training.checkpoint import begin_with  # noqa: E402
from rsdata.training.models import MODELS, Model, build_model  # noqa: E402
from rsdata.training.models.published import CLASSES, ORDERS, weights_file  # noqa: E402

# bands as a shard lists them, which is neither published order
S2 = ("B02", "B03", "B04", "B08", "B05", "B06", "B07", "B8A", "B11", "B12")
BY_COUNT = {2: ("VH", "VV"), 10: S2, 12: (*S2, "VH", "VV")}
NAMES = tuple(each.name for each in load_nomenclature("bigearthnet-19").classes)  # in the order of a shard's label table


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Threads that wait for each other on cores that others use are far slower than one."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def published(path: Path, bands: int, model: str, seed: int = 0):
    """A file laid out as the published ones, and the network whose weights it holds."""
    torch.manual_seed(seed)
    network = build_model(model, bands, 19)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({f"model.vision_encoder.{name}": value for name, value in network.state_dict().items()}, path)
    return network.eval()


def stacked(order, pixels):
    """(patch, band, y, x) in an order of band names."""
    return torch.stack([pixels[band] for band in order], dim=1)


@pytest.mark.parametrize("version", ["0.1.1", "0.2.0"])
@pytest.mark.parametrize("count", [2, 10, 12])
def test_a_published_network_answers_as_in_its_own_band_and_class_order(version, count, tmp_path):
    path = tmp_path / f"resnet18-x-v{version}" / "model.safetensors"
    theirs = published(path, count, "small-cnn")
    bands, order = BY_COUNT[count], next(order for order in ORDERS[version] if len(order) == count)
    assert set(bands) == set(order)
    ours = build_model("small-cnn", count, 19).eval()
    words = begin_with(ours, "small-cnn", bands, path, NAMES, version)
    pixels = {band: torch.randn(2, 32, 32) for band in bands}
    with torch.inference_mode():
        expected = theirs(stacked(order, pixels))[:, [sorted(NAMES).index(name) for name in NAMES]]
        assert torch.allclose(ours(stacked(bands, pixels)), expected, atol=1e-6)
        if bands != order:
            assert not torch.allclose(theirs(stacked(bands, pixels)), theirs(stacked(order, pixels)), atol=1e-3)
    assert words.startswith("begins with 14 tensors of model.safetensors, a reBEN checkpoint of version " + version)
    assert words.endswith(f"whose {count} bands are matched by name, as are its 19 classes")


def test_the_two_versions_differ_in_what_they_take_a_channel_for():
    assert ORDERS["0.1.1"][2].index("B08") == 3 and ORDERS["0.2.0"][2].index("B08") == 8
    for one, other in zip(ORDERS["0.1.1"], ORDERS["0.2.0"], strict=True):
        assert set(one) == set(other) and one != other


def test_published_classes_are_those_of_our_table():
    assert sorted(NAMES) == list(CLASSES)


@pytest.mark.parametrize("name", ["mobilevit-s", "mobilenetv4-hybrid-m"])
def test_networks_of_timm_are_filled_too(name, tmp_path, torchvision):
    path = tmp_path / f"{name}-s1-v0.2.0" / "model.safetensors"
    theirs = published(path, 2, name)
    ours = build_model(name, 2, 19).eval()
    begin_with(ours, name, ("VH", "VV"), path, CLASSES)
    pixels = torch.randn(1, 2, 64, 64)
    with torch.inference_mode():
        assert torch.allclose(ours(pixels.flip(1)), theirs(pixels), atol=1e-5)


def test_other_classes_leave_the_last_layer_new(tmp_path):
    path = tmp_path / "resnet18-s1-v0.2.0.safetensors"
    theirs = published(path, 2, "resnet18")
    ours = build_model("resnet18", 2, 19)
    words = begin_with(ours, "resnet18", ("VV", "VH"), path, tuple(f"crop {number}" for number in range(19)))
    assert words.endswith("bands are matched by name; 2 of the last layer are new")
    assert not torch.equal(ours.fc.weight, theirs.fc.weight)
    assert torch.equal(ours.layer4[1].conv2.weight, theirs.layer4[1].conv2.weight)


@pytest.mark.parametrize(
    "place",
    [
        "resnet18-s1-v0.2.0/model.safetensors",
        "resnet18-s1-v0.2.0.safetensors",
        "models--BIFOLD-BigEarthNetv2-0--resnet18-s1-v0.2.0/snapshots/0a1b2c/model.safetensors",  # the hub's cache
    ],
)
def test_the_version_is_read_from_names(place, tmp_path):
    published(tmp_path / place, 2, "small-cnn")
    words = begin_with(build_model("small-cnn", 2, 19), "small-cnn", ("VV", "VH"), tmp_path / place, NAMES)
    assert "version 0.2.0" in words


def test_the_version_is_read_from_a_config_that_states_it(tmp_path):
    published(tmp_path / "model.safetensors", 2, "small-cnn")
    (tmp_path / "config.json").write_text(json.dumps({"version": "v0.1.1", "timm_model_name": "resnet18"}))
    assert "version 0.1.1" in begin_with(build_model("small-cnn", 2, 19), "small-cnn", ("VV", "VH"), tmp_path / "model.safetensors", NAMES)


@pytest.mark.parametrize(
    ("bands", "count", "said", "message"),
    [
        (("VV", "VH"), 2, None, r"of unknown version, and so of unknown band order; keep the name .* or say the version as init_version"),
        (("VV", "VH"), 2, "0.3.0", r"band order of published reBEN checkpoints of version 0.3.0 is not known; 0.1.1 and 0.2.0 are"),
        (("B02", "B03", "B04"), 3, "0.2.0", r"takes in 3 bands; version 0.2.0 was published for 2, 10, 12"),
        (("B02", "B03"), 2, "0.2.0", r"was trained on VV, VH; this model is fed with B02, B03; name those same bands, in any order"),
        (("VV", "VH", "B02"), 2, "0.2.0", r"was trained on VV, VH; this model is fed with VV, VH, B02"),
    ],
)
def test_unknown_orders_and_other_bands_are_refused(bands, count, said, message, tmp_path):
    path = tmp_path / "model.safetensors"
    published(path, count, "small-cnn")
    network = build_model("small-cnn", len(bands), 19)
    before = network.fc.weight.clone()
    with pytest.raises(TrainingError, match=message):
        begin_with(network, "small-cnn", bands, path, NAMES, said)
    assert torch.equal(network.fc.weight, before)


def test_a_checkpoint_of_another_network_is_refused(tmp_path):
    published(tmp_path / "model.safetensors", 2, "resnet18")
    with pytest.raises(TrainingError, match="model.safetensors does not fit resnet50: .* tensors are missing or of another size"):
        begin_with(build_model("resnet50", 2, 19), "resnet50", ("VV", "VH"), tmp_path / "model.safetensors", NAMES, "0.2.0")
    with pytest.raises(TrainingError, match=r"is of another model: it has no layers.0.0.weight, which takes in the bands"):
        begin_with(build_model("small-cnn", 2, 19), "small-cnn", ("VV", "VH"), tmp_path / "model.safetensors", NAMES, "0.2.0")


def test_a_file_that_does_not_name_its_bands_is_taken_with_a_word_on_it(tmp_path):
    network = build_model("small-cnn", 2, 19)
    save_file(network.state_dict(), tmp_path / "own.safetensors")
    words = begin_with(build_model("small-cnn", 2, 19), "small-cnn", ("VV", "VH"), tmp_path / "own.safetensors", NAMES)
    assert "taken to be fed with VV, VH: the file does not say" in words


class Harm:
    def __reduce__(self):
        return (Path.touch, (Path("harm-was-done"),))


@pytest.mark.parametrize("name", ["weights.pt", "weights.ckpt", "weights.safetensors", "weights"])
@pytest.mark.parametrize("write", [torch.save, lambda what, path: path.write_bytes(pickle.dumps(what))], ids=["torch", "pickle"])
def test_a_pickle_is_refused_unopened_whatever_it_is_called(name, write, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(Harm(), tmp_path / name)
    with pytest.raises(TrainingError, match="is a pickle, which can run any code when it is opened; give the same weights as safetensors"):
        weights_file(str(tmp_path / name))
    assert not Path("harm-was-done").exists()


def test_safetensors_with_any_length_of_header_are_no_pickle(tmp_path):
    """A length of 640 is written as the bytes 80 02, as pickles begin."""
    made = next(
        path
        for count in range(400, 640)
        if (path := tmp_path / f"{count}.safetensors")
        and (save_file({"a": torch.zeros(1)}, path, {"pad": "x" * count}) or path.read_bytes()[:2] == b"\x80\x02")
    )
    assert weights_file(str(made)) == made


def test_a_folder_stands_for_its_weights(tmp_path):
    assert weights_file(str(tmp_path)) == tmp_path / "model.safetensors"


def test_the_hub_is_asked_only_where_it_is_said(tmp_path, monkeypatch):
    hub = pytest.importorskip("huggingface_hub")
    asked = []

    def download(name, file):
        asked.append((name, file))
        raise OSError("no network\nand more")

    monkeypatch.setattr(hub, "hf_hub_download", download)
    monkeypatch.chdir(tmp_path)
    assert weights_file("owner/name.safetensors") == Path("owner/name.safetensors")
    assert not asked
    with pytest.raises(TrainingError, match=r"model.safetensors of owner/name cannot be fetched from the hub: no network; give a path"):
        weights_file("hub:owner/name")
    assert asked == [("owner/name", "model.safetensors")]
    with pytest.raises(TrainingError, match="hub:name names no repository of the hub; expected hub:OWNER/NAME"):
        weights_file("hub:name")


def test_every_stem_and_head_can_be_told_from_the_other():
    assert all(not model.stem.startswith(f"{model.head}.") for model in MODELS.values())


# --- the whole way ----------------------------------------------------------------------------------------

SAID = {"model": "small-cnn", "input_px": 24, "epochs": 1, "batch_size": 8, "baselines": False}


class Notes(SilentProgress):
    def __init__(self):
        self.said = []

    def note(self, words):
        self.said.append(words)


def test_training_begins_with_a_published_checkpoint_of_a_version_that_is_said(tmp_path):
    shard, notes = make_shard({"train": 16, "validation": 4, "test": 4}), Notes()
    published(tmp_path / "model.safetensors", 2, "small-cnn")
    said = SAID | {"bands": ["VH", "VV"], "init": str(tmp_path), "learning_rate": 1e-30, "weight_decay": 0.0}
    with pytest.raises(TrainingError, match="say the version as init_version"):
        train_shard(shard, Training.model_validate(said), tmp_path / "out", notes)
    trained = {}
    for version in ORDERS:
        train_shard(shard, Training.model_validate(said | {"init_version": version}), tmp_path / version, notes)
        trained[version] = load_checkpoint(run_folder(tmp_path / version, 0) / CHECKPOINT_NAME).network.state_dict()
    assert [note for note in notes.said if "a reBEN checkpoint of version 0.2.0, whose 2 bands are matched by name; 2 of the last" in note]
    stem = MODELS["small-cnn"].stem
    assert torch.equal(trained["0.1.1"][stem], trained["0.2.0"][stem].flip(1))


def test_a_network_of_one_size_is_made_for_the_input_and_again_from_its_checkpoint(tmp_path, monkeypatch):
    def build(wanted):
        size = wanted.bands * wanted.side_px**2
        return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.LayerNorm(size), torch.nn.Linear(size, wanted.outputs))

    monkeypatch.setitem(MODELS, "flat", Model(build, lambda network, pixels: pixels.flatten(1), fixed_side=True, least_px=16))
    shard = make_shard({"train": 16, "validation": 4, "test": 4})
    report = train_shard(shard, Training.model_validate(SAID | {"model": "flat", "bands": ["VV"]}), tmp_path, SilentProgress())
    assert report.parameters == 24 * 24 * (2 + 2) + 2
    again = score(load_checkpoint(run_folder(tmp_path, 0) / CHECKPOINT_NAME), shard, "test")
    assert again == report.runs[0].test
    with pytest.raises(TrainingError, match="flat needs squares of at least 16 pixels a side and was asked for 12; enlarge input_px"):
        train_shard(shard, Training.model_validate(SAID | {"model": "flat", "input_px": 12}), tmp_path / "small", SilentProgress())


@pytest.mark.parametrize(("name", "task"), [("mobilevit-s", "multilabel"), ("deeplabv3plus", "segmentation")])
def test_networks_of_other_libraries_train_and_score_again_as_reported(name, task, tmp_path, torchvision):
    shard = make_shard({"train": 16, "validation": 4, "test": 4})
    said = SAID | {"model": name, "task": task, "bands": ["VV", "B11"], "input_px": 32, "dropout": 0.15, "drop_path": 0.15}
    report = train_shard(shard, Training.model_validate(said), tmp_path, SilentProgress())
    assert score(load_checkpoint(run_folder(tmp_path, 0) / CHECKPOINT_NAME), shard, "test") == report.runs[0].test

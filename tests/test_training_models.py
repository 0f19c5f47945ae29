"""Models: every one passes the same suite, and ours are those of other libraries."""

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from suites import ModelTests  # noqa: E402

from rsdata.errors import TrainingError  # noqa: E402
from rsdata.training.models import MODELS, build_model, count_parameters, features  # noqa: E402


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Threads that wait for each other on cores that others use are far slower than one."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class TestSmallCnn(ModelTests):
    model = "small-cnn"
    parameters = 864 + 64 + 18_432 + 128 + 73_728 + 256 + 147_456 + 256 + 129_000  # layer by layer


class TestPixelMil(ModelTests):
    model = "pixel-mil"
    parameters = 96 + 64 + 1024 + 64 + 2048 + 128 + 64 + 65_000  # layer by layer, and how each channel pools


class TestSmallUnet(ModelTests):
    model = "small-unet"
    parameters = 10_208 + 55_552 + 221_696 + 147_712 + 36_992 + 33_000  # scale by scale


class TestResNet18(ModelTests):
    model = "resnet18"
    parameters = 11_689_512


class TestResNet50(ModelTests):
    model = "resnet50"
    parameters = 25_557_032


class TestResNet101(ModelTests):
    model = "resnet101"
    parameters = 44_549_160


class TestConvNextV2(ModelTests):
    model = "convnextv2-base"
    parameters = 88_717_800


class TestInceptionNext(ModelTests):
    model = "inceptionnext-base"
    parameters = 86_672_136


class TestMlpMixer(ModelTests):
    model = "mlp-mixer-b16"
    parameters = 59_880_472


class TestMobileNetV4(ModelTests):
    model = "mobilenetv4-hybrid-m"
    parameters = 11_074_648  # the paper says 10.5 million


class TestMobileVit(ModelTests):
    model = "mobilevit-s"
    parameters = 5_578_632


class TestRdNet(ModelTests):
    model = "rdnet-base"
    parameters = 87_451_096


class TestVit(ModelTests):
    model = "vit-base"
    parameters = 86_576_872  # ViT-B with patches of 8 x 8


class TestDeepLab(ModelTests):
    model = "deeplabv3plus"
    parameters = 26_677_585 + 999 * (256 + 1)  # one class, as the library counts, and the last layer of the others


class TestUnet(ModelTests):
    model = "unet"
    parameters = 32_521_105 + 999 * (16 * 9 + 1)


def test_every_model_is_held_to_the_suite():
    assert {suite.model for suite in ModelTests.__subclasses__() if suite.__module__ == __name__} == set(MODELS)


def test_an_unknown_model_is_answered_with_the_known_ones():
    with pytest.raises(TrainingError, match=r"no model 'resnet19'; known are convnextv2-base, .*, resnet101, resnet18, resnet50, "):
        build_model("resnet19", 3, 10)


def test_the_documentation_lists_every_model_with_its_size():
    text = (Path(__file__).parents[1] / "docs" / "models.md").read_text(encoding="utf-8")
    rows = {cells[1].strip(" `"): float(cells[3]) for line in text.splitlines() if len(cells := line.split("|")) == 9 and "`" in cells[1]}
    assert set(rows) == set(MODELS)
    for name in ("resnet18", "small-cnn", "small-unet", "pixel-mil"):
        assert rows[name] == round(count_parameters(build_model(name, 12, 19)) / 1e6, 2)


@pytest.mark.parametrize("name", ["resnet50", "resnet101"])
def test_our_resnets_are_those_of_timm(name, torchvision):
    import timm

    torch.manual_seed(0)
    ours, theirs = build_model(name, 12, 19).eval(), timm.create_model(name, in_chans=12, num_classes=19).eval()
    assert theirs.load_state_dict(ours.state_dict()) and len(theirs.state_dict()) == len(ours.state_dict())
    pixels = torch.randn(2, 12, 40, 40)
    with torch.inference_mode():
        assert torch.allclose(ours(pixels), theirs(pixels), atol=1e-5)
        theirs_features = theirs.forward_head(theirs.forward_features(pixels), pre_logits=True)
        assert torch.allclose(features(name, ours, pixels), theirs_features, atol=1e-5)


@pytest.mark.parametrize("name", ["unet", "deeplabv3plus"])
def test_padding_is_no_more_than_the_library_is_given(name, torchvision):
    """A patch of a size that the library takes goes through unchanged; a smaller one is answered as if its edge went on."""
    torch.manual_seed(0)
    network = build_model(name, 2, 3).eval()
    pixels = torch.randn(1, 2, 40, 56)
    enlarged = torch.nn.functional.pad(pixels, (4, 4, 12, 12), mode="replicate")
    with torch.inference_mode():
        assert torch.equal(network(pixels), network(enlarged)[:, :, 12:52, 4:60])
        inner = network.segmentation_head(network.decoder(network.encoder(enlarged)))
        assert torch.equal(network(enlarged), inner)


def test_models_of_a_missing_library_name_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "timm", None)
    with pytest.raises(TrainingError, match=r"vit_base_patch8_224 needs timm, which cannot be loaded .*; install it with: pip install"):
        build_model("vit-base", 3, 10)


def test_a_torchvision_for_another_torch_is_named_with_the_one_to_install(monkeypatch):
    def refuse(name):
        raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setattr("rsdata.training.models.library.import_module", refuse)
    with pytest.raises(TrainingError, match=r"does not fit torch .*nms does not exist.*download.pytorch.org/whl/.* torchvision"):
        build_model("unet", 3, 10)


def test_pooling_lies_between_the_mean_and_the_largest_pixel_and_counts_each_alike():
    network = build_model("pixel-mil", 1, 2).eval()
    pixels = torch.linspace(-2, 2, 64).reshape(1, 1, 8, 8)
    seen = network.layers(pixels).flatten(2)[0]

    def pooled(sharpness: float) -> torch.Tensor:
        torch.nn.init.constant_(network.log_sharpness, float(torch.tensor(sharpness).log()))
        return network.features(pixels)[0]

    with torch.inference_mode():
        torch.testing.assert_close(pooled(1e-3), seen.mean(dim=1), atol=1e-3, rtol=0)
        torch.testing.assert_close(pooled(1e4), seen.amax(dim=1), atol=1e-3, rtol=0)
        torch.testing.assert_close(pooled(2.0), (2 * seen).exp().mean(dim=1).log() / 2)
        torch.testing.assert_close(network.features(pixels.flip(3).transpose(2, 3))[0], pooled(2.0))

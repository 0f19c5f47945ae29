"""Models: one suite that every model passes, and what is published about each."""

import pytest

torch = pytest.importorskip("torch")

from rsdata.errors import TrainingError  # noqa: E402
from rsdata.training.models import MODELS, build_model, count_parameters  # noqa: E402


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Threads that wait for each other on cores that others use are far slower than one."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class ModelTests:
    """What holds for every model; a new one is a class with its short name and its number of parameters."""

    model: str
    parameters: int  # for 3 bands and 1000 classes

    def test_it_has_the_published_number_of_parameters(self):
        assert count_parameters(build_model(self.model, 3, 1000)) == self.parameters

    @pytest.mark.parametrize("bands", [1, 2, 12, 14])
    def test_any_number_of_bands_gives_one_logit_per_class(self, bands):
        network = build_model(self.model, bands, 19).eval()
        with torch.inference_mode():
            assert network(torch.zeros(2, bands, 64, 64)).shape == (2, 19)

    @pytest.mark.parametrize("side_px", [20, 60, 120])
    def test_any_patch_size_is_taken(self, side_px):
        network = build_model(self.model, 2, 3).eval()
        with torch.inference_mode():
            assert torch.isfinite(network(torch.ones(1, 2, side_px, side_px))).all()

    def test_one_step_lowers_the_loss(self):
        torch.manual_seed(0)
        network = build_model(self.model, 4, 5).train()
        pixels, targets = torch.randn(8, 4, 64, 64), (torch.rand(8, 5) > 0.5).float()
        optimizer = torch.optim.SGD(network.parameters(), lr=1e-2)
        before = torch.nn.functional.binary_cross_entropy_with_logits(network(pixels), targets)
        before.backward()
        optimizer.step()
        with torch.no_grad():
            after = torch.nn.functional.binary_cross_entropy_with_logits(network(pixels), targets)
        assert after < before

    def test_the_same_seed_gives_the_same_weights(self):
        networks = []
        for _ in range(2):
            torch.manual_seed(3)
            networks.append(build_model(self.model, 2, 3).state_dict())
        assert all(torch.equal(value, networks[1][name]) for name, value in networks[0].items())

    def test_no_bands_or_no_classes_is_refused(self):
        for bands, classes in ((0, 19), (12, 0)):
            with pytest.raises(TrainingError, match="at least one of each"):
                build_model(self.model, bands, classes)


class TestResNet18(ModelTests):
    model = "resnet18"
    parameters = 11_689_512


class TestResNet50(ModelTests):
    model = "resnet50"
    parameters = 25_557_032


def test_every_model_is_held_to_the_suite():
    assert {suite.model for suite in ModelTests.__subclasses__()} == set(MODELS)


def test_an_unknown_model_is_answered_with_the_known_ones():
    with pytest.raises(TrainingError, match=r"no model 'resnet19'; known are resnet18, resnet50"):
        build_model("resnet19", 3, 10)

"""Engines of captions: the family's suite."""

import pytest
from suites import CLASS_NAMES, CaptionEngineTests

from rsdata.captions import Surroundings, open_engine
from rsdata.errors import CaptionError
from rsdata.recipe import Captions, LanguageModel
from rsdata.testing.chat_server import chat_server


class TestTemplateEngine(CaptionEngineTests):
    def part(self) -> Captions:
        return Captions(seed=3)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with chat_server(tmp_path_factory.mktemp("server") / "log", ["good", "good", "lies", "liar"]) as running:
        yield running


class TestModelEngine(CaptionEngineTests):
    @pytest.fixture(autouse=True)
    def _model(self, server):
        self.model = LanguageModel(base_url=server.url, model="tiny")

    def part(self) -> Captions:
        return Captions(engine="llm", seed=3, llm=self.model)


def test_an_engine_that_does_not_exist_is_refused_with_the_known_ones():
    with (
        pytest.raises(CaptionError, match="'poet'; known are llm, template"),
        open_engine(Captions(engine="poet"), Surroundings(CLASS_NAMES)),
    ):
        pass


def test_a_model_needs_a_place_for_its_answers():
    part = Captions(engine="llm", llm=LanguageModel(base_url="http://127.0.0.1:1/v1", model="tiny"))
    with pytest.raises(CaptionError, match="needs a file to keep answers in"), open_engine(part, Surroundings(CLASS_NAMES)):
        pass

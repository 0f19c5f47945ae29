"""A language model's captions in a built dataset: files, batches, the command line, and the report page."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
import yaml
from typer.testing import CliRunner

from rsdata import steps
from rsdata.commands import app
from rsdata.errors import CaptionError, RecipeError
from rsdata.records import TextReport
from rsdata.testing.chat_server import chat_server
from rsdata.workspace import Workspace, file_sha256, read_record

KEY = "sk-planted-77aa01"


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    with chat_server(tmp_path_factory.mktemp("server") / "log") as server:
        yield server


@pytest.fixture
def server(running):
    return running.from_now_on()


@pytest.fixture
def dataset(built, tmp_path) -> Workspace:
    """A copy of the small dataset, to be changed."""
    return Workspace(Path(shutil.copytree(built.root, tmp_path / "dataset")))


def kept(workspace: Workspace) -> int:
    patches = pd.read_parquet(workspace.patches, columns=["kept"])
    return int(patches["kept"].sum())


def captions_of(workspace: Workspace) -> pd.DataFrame:
    rows = pd.read_parquet(workspace.texts, columns=["row_id", "patch_id", "category", "output", "model", "prompt_digest", "template_id"])
    return rows[rows["category"] == "caption"].set_index("patch_id")


def invoke(*arguments: object) -> str:
    result = CliRunner().invoke(app, ["caption", *map(str, arguments)])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_a_model_rewords_the_captions_of_a_built_dataset_from_the_command_line(dataset, server, monkeypatch):
    monkeypatch.setenv("PLANTED", KEY)
    before, count = captions_of(dataset), kept(dataset)
    asked = ["--engine", "llm", "--base-url", server.url, "--model", "good", "--api-key-env", "PLANTED"]
    said = json.loads(invoke(dataset.root, *asked, "--json"))
    assert said["done"]
    assert (
        said["model"]["captions"]
        == count
        == said["model"]["accepted_at_first"] + said["model"]["accepted_after_repair"] + (said["model"]["fallen_back"])
    )
    after = captions_of(dataset)
    by_model = after["model"].notna()
    assert by_model.sum() == count - said["model"]["fallen_back"] > 0.9 * count
    assert set(after.loc[by_model, "model"]) == {"good"}
    assert (after.loc[by_model, "output"] != before.loc[by_model, "output"]).all()
    assert (after.loc[~by_model, "output"] == before.loc[~by_model, "output"]).all()
    assert after["row_id"].is_unique
    findings = steps.verify_dataset(dataset)[1]
    assert findings == []
    assert yaml.safe_load(dataset.recipe.read_text())["captions"]["llm"]["api_key_env"] == "PLANTED"
    assert {each["key"] for each in server.requests()} == {f"Bearer {KEY}"}
    holding = [path.name for path in dataset.root.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()]
    assert holding == []
    outcomes = pd.read_parquet(dataset.model_captions)
    assert outcomes["patch_id"].tolist() == sorted(after.index)
    assert (outcomes["outcome"] == "template").sum() == said["model"]["fallen_back"]

    # Nothing is asked again, with or without the answers' dataset, and what comes out is the same to the byte.
    digest, requests = file_sha256(dataset.texts), len(server.requests())
    assert not json.loads(invoke(dataset.root, "--json"))["done"]
    dataset.texts.unlink()
    assert json.loads(invoke(dataset.root, "--json"))["done"]
    assert (file_sha256(dataset.texts), len(server.requests())) == (digest, requests)

    # Back to the templates: nothing of the model's is left beside its answers.
    invoke(dataset.root, "--engine", "template")
    pd.testing.assert_frame_equal(captions_of(dataset), before)
    assert not dataset.model_captions.exists()
    assert not dataset.text_report.exists()
    assert steps.verify_dataset(dataset)[1] == []


def test_a_run_that_ends_early_leaves_the_dataset_as_it_was(dataset, server):
    digests = {path: file_sha256(path) for path in (dataset.texts, dataset.facts, dataset.manifest, dataset.recipe)}
    changes = {"engine": "llm", "llm": {"base_url": server.url, "model": "good", "budget": {"tokens": 20_000}}}
    with pytest.raises(CaptionError, match="the budget of 20,000 tokens is spent"):
        steps.recaption(dataset, changes)
    assert {path: file_sha256(path) for path in digests} == digests
    assert not dataset.text_report.exists()
    assert steps.verify_dataset(dataset)[1] == []


def test_pictures_of_the_patches_are_sent_if_asked_for(dataset, server):
    changes = {"engine": "llm", "llm": {"base_url": server.url, "model": "good", "image": True, "budget": {"tokens": 10_000}}}
    with pytest.raises(CaptionError, match="budget"):
        steps.recaption(dataset, changes)
    assert server.requests()
    assert all(each["picture"] for each in server.requests())


def test_batches_are_written_run_and_read_until_the_captions_need_no_server(dataset, server, tmp_path):
    count, asked, rounds = kept(dataset), 0, []
    model = ["--base-url", server.url, "--model", "lies"]
    for number in (1, 2, 3, 4):  # each asks again where the last answer was wrong
        questions, answers = tmp_path / f"questions{number}.jsonl", tmp_path / f"answers{number}.jsonl"
        invoke("batch", "write", dataset.root, "--out", questions, *model)
        lines = [json.loads(line) for line in questions.read_text().splitlines()]
        if not lines:
            break
        rounds.append(len(lines))
        assert len({line["custom_id"] for line in lines}) == len(lines)
        assert {(line["method"], line["url"]) for line in lines} == {("POST", "/v1/chat/completions")}
        assert all(len(line["body"]["messages"]) == 2 * number for line in lines)
        run = ["batch", "run", questions, "--out", answers, "--base-url", server.url, "--concurrency", 2, "--json"]
        assert json.loads(invoke(*run)) == {"answered": len(lines), "answered before": 0, "failed": 0}
        assert json.loads(invoke(*run)) == {"answered": 0, "answered before": len(lines), "failed": 0}
        read = ["batch", "read", dataset.root, answers, "--json"]
        assert json.loads(invoke(*read)) == {"new": len(lines), "known before": 0, "failed": 0}
        assert json.loads(invoke(*read)) == {"new": 0, "known before": len(lines), "failed": 0}
        asked += len(lines)
    assert rounds[:2] == [count, count]  # every first answer is a lie
    nowhere = ["--engine", "llm", "--base-url", "http://127.0.0.1:1/v1", "--model", "lies", "--offline"]
    said = json.loads(invoke(dataset.root, *nowhere, "--json"))["model"]
    assert (said["accepted_at_first"], said["accepted_after_repair"] + said["fallen_back"]) == (0, count)
    assert said["accepted_after_repair"] > 0.8 * count
    assert len(server.requests()) == asked
    assert steps.verify_dataset(dataset)[1] == []


def test_offline_without_answers_names_the_first_patch(dataset):
    changes = {"engine": "llm", "llm": {"base_url": "http://127.0.0.1:1/v1", "model": "none"}}
    with pytest.raises(CaptionError, match=r"the model's answer for S2.* is not there yet \(try 1\); read the results of a batch"):
        steps.recaption(dataset, changes, ask=False)


def test_a_runner_that_was_cut_off_goes_on_where_it_was(dataset, server, tmp_path):
    questions, answers = tmp_path / "questions.jsonl", tmp_path / "answers.jsonl"
    steps.write_batch(dataset, {"llm": {"base_url": server.url, "model": "good"}}, questions)
    questions.write_text("".join(questions.read_text().splitlines(keepends=True)[:6]))
    invoke("batch", "run", questions, "--out", answers, "--base-url", server.url)
    whole = answers.read_bytes()
    answers.write_bytes(whole[: whole.rstrip(b"\n").rfind(b"\n") + 40])  # the last line is cut
    said = json.loads(invoke("batch", "run", questions, "--out", answers, "--base-url", server.url, "--json"))
    assert said == {"answered": 1, "answered before": 5, "failed": 0}
    assert len(server.requests()) == 7
    assert sorted(json.loads(line)["custom_id"] for line in answers.read_text().splitlines()) == sorted(
        json.loads(line)["custom_id"] for line in questions.read_text().splitlines()
    )


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("nothing", "line 1 is not JSON"),
        ('{"custom_id": "a"}', "line 1 is no result of a batch"),
        ('{"custom_id": "feed", "response": {"status_code": 200, "body": {}}}', "answers 'feed', which no batch written for this dataset"),
    ],
)
def test_a_file_that_is_no_result_of_this_dataset_is_refused(dataset, tmp_path, line, message):
    steps.write_batch(dataset, {"llm": {"base_url": "http://127.0.0.1:1/v1", "model": "good"}}, tmp_path / "questions")
    (tmp_path / "answers").write_text(line + "\n")
    with pytest.raises(CaptionError, match=message):
        steps.read_batch(dataset, tmp_path / "answers")


def test_failed_requests_of_a_batch_are_counted_and_asked_again(dataset, tmp_path):
    questions, answers = tmp_path / "questions", tmp_path / "answers"
    count = steps.write_batch(dataset, {"llm": {"base_url": "http://127.0.0.1:1/v1", "model": "good"}}, questions)
    first = json.loads(questions.read_text().splitlines()[0])["custom_id"]
    answers.write_text(json.dumps({"custom_id": first, "response": {"status_code": 500, "body": {}}, "error": None}) + "\n")
    assert steps.read_batch(dataset, answers) == {"new": 0, "known before": 0, "failed": 1}
    assert steps.write_batch(dataset, {"llm": {"base_url": "http://127.0.0.1:1/v1", "model": "good"}}, questions) == count


def test_what_the_command_line_says_wrong_is_refused(dataset):
    with pytest.raises(RecipeError, match="engine llm has no model"):
        steps.recaption(dataset, {"engine": "llm"})
    with pytest.raises(RecipeError, match=r"`llm.api_key_env`: String should match pattern") as caught:
        steps.recaption(dataset, {"engine": "llm", "llm": {"base_url": "http://a/v1", "model": "m", "api_key_env": "sk-secret"}})
    assert "sk-secret" not in str(caught.value)


def test_markup_in_a_caption_is_escaped_on_the_report_page(dataset):
    """The engine refuses markup; should some reach the table in another way, the page still shows it as text."""
    rows = pd.read_parquet(dataset.texts)
    import pyarrow.parquet as pq

    table = pq.read_table(dataset.texts)
    wrong = [f"<script>alert({i})</script><img src=x onerror=alert(1)> & \"'" for i in range(len(rows))]
    table = table.set_column(table.schema.get_field_index("output"), table.schema.field("output"), [wrong])
    pq.write_table(table, dataset.texts)
    dataset.receipt_path("report", "all").unlink(missing_ok=True)
    steps.write_report(steps_recipe(dataset), dataset)
    page = dataset.report.read_text(encoding="utf-8")
    assert "&lt;script&gt;alert(" in page
    assert "<script>alert(" not in page
    assert "<img src=x" not in page


def steps_recipe(workspace: Workspace):
    from rsdata.recipe import load_recipe

    return load_recipe(workspace.recipe)


def test_the_report_page_shows_what_a_models_captions_came_to(dataset, server):
    steps.recaption(dataset, {"engine": "llm", "llm": {"base_url": server.url, "model": "liar<b>", "tries": 1}})
    report = read_record(dataset.text_report, TextReport)
    assert (report.model, report.fallen_back) == ("liar<b>", kept(dataset))
    page = dataset.report.read_text(encoding="utf-8")
    assert "liar&lt;b&gt;" in page
    assert "liar<b>" not in page

"""The documentation: every command, program and recipe on its pages does what it says, and no page hides one from that.

`make check-docs` runs the slow blocks besides.
"""

import importlib.util
import os
import re

import numpy as np
import pytest
import yaml
from docs_blocks import PAGES, ROOT, SHOWN, Block, blocks_of, commands, outside, run_block
from docs_places import Places

from rsdata.recipe import Labels, LanguageModel, Recipe, SeriesVideo, Training
from rsdata.shards import open_cubes, open_shard
from rsdata.shards.video.container import DICTIONARY

ALL = "RSDATA_ALL_BLOCKS" in os.environ  # slow blocks too
SYNTHETIC = {"tiles": ["33UUP"], "dates": ["2023-04-18T10:00:31Z"]}
BLOCKS = [block for page in PAGES for block in blocks_of(page)]
NOT_RUN = [block for block in BLOCKS if block.mark == "not run:"]


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Places:
    return Places(tmp_path_factory.mktemp("docs"))


@pytest.mark.parametrize("page", [page for page in PAGES if any(blocks_of(page))], ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_shows_can_be_done(page, places, monkeypatch, request):
    wanted = [
        block for block in blocks_of(page) if (block.mark in (None, "fails") or (block.mark == "slow" and ALL)) and not block.of_checkout
    ]
    if not any(block.language in ("sh", "python") for block in wanted):
        pytest.skip("nothing to run on this page")
    if any("--model vit-base" in block.code for block in wanted):
        request.getfixturevalue("torchvision")
    with places.of(page, wanted, monkeypatch) as place:
        for block in wanted:
            run_block(block, place.folder, place.replaced, place.names)


def test_readers_without_rsdata_read_what_rsdata_reads(places, monkeypatch):
    read: dict[str, dict[str, object]] = {}
    for name in ("shards", "video", "texts"):
        page = ROOT / "docs" / f"{name}.md"
        start = next(number for number, line in outside(page) if line == "## Without rsdata")
        end = next(number for number, line in outside(page) if number > start and line.startswith("## "))
        blocks = [block for block in blocks_of(page) if start < block.line < end]
        assert blocks and not any(re.search(r"(import|from) rsdata", block.code) for block in blocks)
        with places.of(page, blocks, monkeypatch) as place:
            for block in blocks:
                run_block(block, place.folder, place.replaced, place.names)
            read[name] = place.names
            if name == "shards":
                read[name]["ten"] = read[name]["pixels"][read[name]["place"]].read().result()
    with open_shard(places.dataset / "shards" / "lmdb") as shard:
        row = read["shards"]["row"]
        for found, key in (("optical", row["patch_id"]), ("radar", row["s1_key"])):
            expected = shard.read(key)
            assert set(read["shards"][found]) == set(expected)
            assert all(np.array_equal(read["shards"][found][band], pixels, equal_nan=band[0] == "V") for band, pixels in expected.items())
        assert np.array_equal(read["shards"]["ground"], shard.read(row["reference_map_key"])["Data"])
        ten = shard.read(row["patch_id"])
        assert np.array_equal(read["shards"]["ten"], np.stack([ten[band] for band in ("B02", "B03", "B04", "B08")]))
    with open_cubes(places.dataset / "shards" / "video") as cubes:
        expected = cubes.read_bands("33UUP_22_40", ["B02", "B03", "B04", "B08"])
        assert read["video"]["header"]["bands"] == list(expected)
        assert np.array_equal(read["video"]["cube"], np.stack(list(expected.values()), axis=1))
    texts = read["texts"]
    assert len(texts["captions"]) == len(shard.index) and texts["answer"] == texts["question"]["output"] and len(texts["boxes"]) > 0


def test_the_dictionary_of_video_headers_is_offered_as_it_is():
    assert (ROOT / "docs" / "video-header.txt").read_bytes() == DICTIONARY


def test_every_block_says_a_known_language_and_only_code_has_marks():
    for block in BLOCKS:
        assert block.language in SHOWN | {"sh", "python", "yaml"}, f"{block} is fenced as {block.language!r}"
        assert block.mark is None or block.language in ("sh", "python", "yaml"), f"{block} is marked, but nobody would run it"


def test_no_command_stands_where_it_is_not_run():
    for page in PAGES:
        for number, line in outside(page):
            assert not re.match(r"\s{4,}(rsdata|make|python|pip) ", line), f"{page}:{number} is not fenced; put it between ```sh and ```"
    for block in BLOCKS:
        if block.language in SHOWN:
            assert not re.match(r"\s*(rsdata|make|python|pip) ", block.code), f"{block} holds commands; fence it as sh"


def test_what_is_not_run_is_little_and_says_why():
    for block in NOT_RUN:
        assert len(block.said or "") > 10, f"{block} says no reason"
    print("\n".join(f"{block}: {block.said}" for block in NOT_RUN))
    assert len(NOT_RUN) <= 8, "\n".join(map(str, NOT_RUN))


def test_what_a_page_has_a_checkout_do_is_there():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for block in BLOCKS:
        for tool, name, *_ in (each.split() for each in commands(block.code) if block.of_checkout):
            assert name in targets if tool == "make" else (ROOT / name).is_file(), f"{block} names {name}, which is not there"


def test_what_another_file_runs_is_read_there():
    for block in BLOCKS:
        if block.mark == "run by":
            other = (ROOT / str(block.said)).read_text(encoding="utf-8")
            assert block.page.name in other, f"{block}: {block.said} does not read {block.page.name}"


@pytest.fixture(scope="module")
def generate():
    """The program that makes the pages below reference/."""
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def test_the_recipe_reference_has_every_key_in_plain_words(generate):
    text = generate.recipe_page()
    for part in (Recipe, Labels, LanguageModel, SeriesVideo, Training):
        assert all(f"| `{key}` |" in text for key in part.model_fields)
    assert "| `epochs` | whole number, > 0 | `10` | at most |" in text
    assert not re.search(r"typing|pydantic|class '|Annotated|Undefined", text)


def test_the_command_reference_has_every_command_and_what_it_says(generate):
    text = generate.commands_page()
    headings = re.findall(r"^## rsdata (.+)$", text, re.MULTILINE)
    assert {"demo", "build", "split assign", "shards info", "caption batch write", "export"} <= set(headings)
    assert len(headings) == len(set(headings)) == text.count("Usage: rsdata")


def test_every_page_stands_once_in_the_navigation():
    class Loader(yaml.SafeLoader):
        """Also takes the tags that mkdocs has of its own."""

    Loader.add_multi_constructor("!", lambda loader, suffix, node: None)
    nav = re.findall(r"'([\w/-]+\.md)'", str(yaml.load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"), Loader)["nav"]))
    folder = ROOT / "docs"
    pages = {str(page.relative_to(folder)) for page in PAGES if folder in page.parents} | {"reference/recipe.md", "reference/commands.md"}
    assert sorted(nav) == sorted(pages)


def test_every_link_to_a_page_leads_to_one():
    for page in PAGES:
        for target in re.findall(r"\]\((?!https?://|#|mailto:)([^)#\s]+)", page.read_text(encoding="utf-8")):
            generated = target.startswith("reference/")
            assert generated or (page.parent / target).exists(), f"{page} links to {target}, which is not there"


RECIPES = [block for block in BLOCKS if block.language == "yaml" and block.mark is None and "inputs" not in yaml.safe_load(block.code)]


@pytest.mark.parametrize("block", RECIPES, ids=str)
def test_a_recipe_that_is_shown_is_a_recipe(block: Block):
    said = yaml.safe_load(block.code)
    whole = {"name": "shown", **({} if {"synthetic", "scenes"} & set(said) else {"synthetic": SYNTHETIC}), **said}
    if "scenes" in whole:
        whole["scenes"] = {"sentinel2": ["S2*.SAFE"], **whole["scenes"]}
        whole["labels"] = {"path": "clc.gpkg", **whole.get("labels", {})}
    Recipe.model_validate(whole)

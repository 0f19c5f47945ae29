"""The dataset card says what is so, and nothing in a name can change how it reads."""

import html
import re
import shutil
from dataclasses import replace
from pathlib import Path

import markdown as markdown_to_html
import pandas as pd
import pytest
import yaml
from reports import Page
from suites import ExportTests

from rsdata import catalog, steps
from rsdata.catalog.audit_sentences import audit_sentences
from rsdata.catalog.exports.card import card, markdown
from rsdata.catalog.sources import attributions, data_sources, edition_of, spdx
from rsdata.recipe import Recipe, load_recipe
from rsdata.records import InputDigest, Manifest, SplitAudit
from rsdata.steps.publishing import open_source
from rsdata.workspace import Workspace, read_record


class TestCard(ExportTests):
    form = "card"
    has_pixels = False


@pytest.fixture(scope="module")
def text(built) -> str:
    return (built.root / "catalog" / "card.md").read_text(encoding="utf-8")


def front_matter(text: str) -> dict:
    _, head, _ = text.split("---\n", 2)
    return yaml.safe_load(head)


def real(recipe: dict, **more: object) -> Recipe:
    return Recipe.model_validate({"name": "real", "scenes": {"sentinel2": ["S2*.SAFE"], **more}, "labels": {"path": "x"} | recipe})


def test_the_front_matter_is_yaml_with_the_keys_that_repositories_read(text):
    head = front_matter(text)
    assert (head["pretty_name"], head["license"], head["size_categories"]) == ("small", "other", ["n<1K"])
    assert set(head["tags"]) >= {"remote-sensing", "sentinel-1", "sentinel-2"}


def test_a_licence_that_repositories_know_is_called_as_they_call_it(built):
    with open_source(built) as source:
        for said, called in (("CC-BY-4.0", "cc-by-4.0"), ("Our own terms", "other")):
            head = front_matter(card(replace(source, recipe=source.recipe.model_copy(update={"licence": said}))))
            assert head["license"] == called
    assert head["license_name"] == "our-own-terms"


def test_counts_per_split_and_class_are_those_of_the_table(built, text):
    table = catalog.read_patches(built.patches)
    kept = table[table["kept"]]
    train = int((kept["split"] == "train").sum())
    assert f"| train | {train:,} | {train / len(kept):.1%} |" in text
    urban = [
        int(sum("Urban fabric" in labels for labels in kept.loc[kept["split"] == split, "labels"]))
        for split in ("train", "validation", "test")
    ]
    assert f"| Urban fabric | {' | '.join(map(str, urban))} | {sum(urban)} |" in text
    manifest = read_record(built.manifest, Manifest)
    assert f"{len(table)} patches were cut from 2 scenes and {len(kept)} kept" in text
    assert manifest.recipe_sha256 in text and "| rsdata | 0" in text


@pytest.fixture(scope="module")
def report(built, tmp_path_factory) -> str:
    copy = Workspace(Path(shutil.copytree(built.root, tmp_path_factory.mktemp("reported") / "dataset")))
    steps.write_report(load_recipe(copy.recipe), copy)
    return copy.report.read_text(encoding="utf-8")


def test_the_audit_of_the_split_is_told_as_the_report_tells_it(built, text, report):
    audit = read_record(built.audit, SplitAudit)
    assert "- Good: No train patch lies within 12.0 km of a test patch.\n" in text
    told = [line.removeprefix("- ") for line in text.splitlines() if re.match("- (Good|Note|Bad): ", line)]
    assert told == [f"{severity.capitalize()}: {markdown(said)}" for severity, said in audit_sentences(audit)]
    assert len(told) > 3 and all(said in Page(report).words for _, said in audit_sentences(audit))


def test_that_a_split_leaks_is_told_once(built):
    with open_source(built) as source:
        leaking = source.audit.split.model_copy(update={"strategy": "random", "leaks": "neighbours fall into different splits"})
        said = card(replace(source, audit=source.audit.model_copy(update={"split": leaking})))
    assert "- Bad: The split leaks by the way it was made (random): neighbours fall into different splits.\n" in said
    assert said.count("neighbours fall into different splits") == 1


def test_the_report_says_the_attributions_that_the_card_says(built, report):
    with open_source(built) as source:
        assert not source.recipe.attribution
        said = attributions(source.recipe, data_sources(source.recipe, source.patches, source.dataset))
    assert said and f"<h2>Sources and provenance</h2>\n<ul>{''.join(f'<li>{line}</li>' for line in said)}</ul>" in report


@pytest.mark.parametrize(
    ("licence", "name"),
    [
        ("CC-BY-4.0", "CC-BY-4.0"),
        ("cc-by-4.0", "CC-BY-4.0"),
        ("CDLA-Permissive-1.0", "CDLA-Permissive-1.0"),
        ("Proprietary", None),
        ("CC-BY-4.0-ours", None),
        ("Our own terms", None),
        ("MIT OR Apache-2.0", None),
        ("LicenseRef-ours", None),
        ("", None),
    ],
)
def test_a_licence_is_named_only_if_the_list_of_spdx_has_it(licence, name):
    assert spdx(licence) == name


def test_synthetic_scenes_claim_no_satellite(text):
    assert "> Synthetic scenes made by rsdata; no satellite data." in text
    assert "Copernicus" not in text


@pytest.mark.parametrize(
    ("recipe", "edition", "said"),
    [
        (
            {"source": "corine"},
            "CLC2018",
            "European Union's Copernicus Land Monitoring Service information; https://doi.org/10.2909/71c95a07",
        ),
        (
            {"source": "worldcover"},
            "WorldCover v200 (2021)",
            "© ESA WorldCover project 2021 / Contains modified Copernicus Sentinel data 2021",
        ),
    ],
)
def test_attributions_are_those_the_providers_ask_for(recipe, edition, said):
    dataset = Manifest.model_construct(inputs=[InputDigest(name="x", sha256="", kind="labels", version=edition)])
    patches = pd.DataFrame({"datetime": pd.to_datetime(["2017-06-13", "2019-01-01"], utc=True), "s1_product": [None, "S1A"]})
    found = attributions(real(recipe), data_sources(real(recipe), patches, dataset))
    assert found[0] == "Contains modified Copernicus Sentinel data 2017-2019."
    assert any(said in each for each in found)


def test_a_copernicus_dem_is_credited_where_the_recipe_names_one():
    recipe = real({}, sentinel1=["S1*"], dem=["Copernicus_DSM_COG_10_N48_00_E011_00_DEM.tif"])
    patches = pd.DataFrame({"datetime": pd.to_datetime(["2017-06-13"], utc=True), "s1_product": ["S1A"]})
    assert "Copernicus DEM" in [each.name for each in data_sources(recipe, patches, Manifest.model_construct(inputs=[]))]


@pytest.mark.parametrize(
    ("names", "edition"),
    [
        (["U2018_CLC2018_V2020_20u1.gpkg"], "CLC2018 V2020_20u1"),
        (["labels.gpkg", "polygons", "Code_18"], "CLC2018"),
        (["clc.gpkg", "layer", "CODE_06"], "CLC2006"),
        (["ESA_WorldCover_10m_2021_v200_N48E009_Map.tif"], "WorldCover v200 (2021)"),
        (["fields.gpkg", "fields", "class"], None),
    ],
)
def test_the_edition_of_a_land_cover_map_is_read_from_its_names(names, edition):
    assert edition_of(names) == edition


@pytest.mark.parametrize(
    "hostile",
    [
        "<script>alert(1)</script>",
        "![x](https://example.org/x.png)",
        "[click](javascript:alert(1))",
        "**bold** `code` | cell |",
        "line\n\n# heading",
        "- item",
        "1. item",
        "<https://example.org>",
        "a&lt;b",
        "write to a@example.org",
        "see HTTPS://example.org",
    ],
)
def test_a_name_reads_as_itself_and_makes_no_markup(hostile):
    page = markdown_to_html.markdown(f"{markdown(hostile)}", extensions=["tables"])
    assert page.startswith("<p>") and page.endswith("</p>")
    inside = page.removeprefix("<p>").removesuffix("</p>").replace("<!-- -->", "")
    assert "<" not in inside and html.unescape(inside) == " ".join(hostile.split())


@pytest.mark.parametrize(
    ("address", "escaped"),
    [
        ("http://x.org", "h&#116;tp://x.org"),
        ("HTTP://x.org", "H&#84;TP://x.org"),
        ("1https://x.org", "1h&#116;tps://x.org"),
        ("_Www.x.org", r"\_W&#119;w.x.org"),
        ("a@b.org", "a&#64;<!-- -->b.org"),
        ("MailTo:a@b.org", "M&#97;ilTo:a&#64;<!-- -->b.org"),
        ("ahttp", "ahttp"),
    ],
)
def test_no_address_is_left_that_github_makes_a_link_of(address, escaped):
    """cmark-gfm, which GitHub reads Markdown with, showed each of the right-hand texts as text."""
    assert markdown(address) == escaped


def test_a_hostile_title_neither_ends_the_front_matter_nor_reaches_the_page_as_html(built):
    title = "x\n---\nlicense: mit\n<script>alert(1)</script> [a](javascript:b)"
    with open_source(built) as source:
        text = card(replace(source, recipe=source.recipe.model_copy(update={"title": title})))
    head = front_matter(text)
    assert head["pretty_name"] == " ".join(title.split()) and head["license"] == "other"
    page = markdown_to_html.markdown(text.split("---\n", 2)[2].split("\n## Contents")[0])
    assert "<script" not in page and "<a " not in page


def test_an_export_is_named_as_repositories_show_it(built, tmp_path, text):
    steps.export_dataset(built, "card", tmp_path / "out")
    assert (tmp_path / "out" / "README.md").read_text(encoding="utf-8") == text

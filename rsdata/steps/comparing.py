"""Two builds side by side."""

from rsdata import catalog
from rsdata.catalog.differences import differences, differences_in_words
from rsdata.recipe import load_recipe
from rsdata.records import BuildDifferences, Manifest
from rsdata.workspace import Workspace, read_record

__all__ = ["compare_datasets", "differences_in_words"]


def compare_datasets(a: Workspace, b: Workspace) -> BuildDifferences:
    """What the build in ``b`` has other than that in ``a``, by their manifests, recipes and patch tables.

    Raises: RsdataError if one of them is not built.
    """
    manifests = [read_record(each.manifest, Manifest) for each in (a, b)]
    recipes = [load_recipe(each.recipe).model_dump(mode="json") for each in (a, b)]
    tables = [catalog.read_patches(each.patches) for each in (a, b)]
    return differences(manifests[0], manifests[1], (recipes[0], recipes[1]), (tables[0], tables[1]))

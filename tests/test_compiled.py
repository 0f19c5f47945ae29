"""Compiled functions, and where they are kept."""

from pathlib import Path

import numba
import pytest
from numba.core import caching

from rsdata.compiled import compiled

PACKAGE = Path(__file__).parents[1] / "rsdata"


def twice(number):
    return 2 * number


def test_a_function_is_compiled_where_no_folder_can_keep_it(monkeypatch):
    """As for a user who is known by number alone, without a home, where the package belongs to another."""
    monkeypatch.setattr(caching.CacheImpl, "_locator_classes", [])
    with pytest.raises(RuntimeError, match="no locator available"):
        numba.njit(cache=True)(twice)
    made = compiled()(twice)
    assert made(21) == 42
    assert made.signatures == [(numba.int64,)]


def test_everything_is_compiled_so():
    assert [path.name for path in PACKAGE.rglob("*.py") if "njit" in path.read_text(encoding="utf-8")] == ["compiled.py"]

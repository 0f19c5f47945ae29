"""Loops over pixels and numbers, compiled by numba on first use."""

from collections.abc import Callable
from typing import Any, cast

from numba import njit


def compiled(**options: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Compile a function to run without Python's lock, so that threads share the work.

    What was compiled is kept beside the source, or in the user's cache folder where that cannot be written; where neither
    can, as for a user without a home, it is compiled anew by every process.

    Args:
        options: further ones of ``numba.njit``, such as ``error_model``.
    """

    def make(function: Callable[..., Any]) -> Callable[..., Any]:
        try:
            made = njit(nogil=True, cache=True, **options)(function)
        except RuntimeError:  # numba found no folder to keep it in
            made = njit(nogil=True, **options)(function)
        return cast(Callable[..., Any], made)

    return make

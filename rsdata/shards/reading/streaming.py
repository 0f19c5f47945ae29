"""Writes that go past the caches, for batches larger than those: memory is then not read before it is written.

What is written must be worked out in the cache first: a store past the cache is only cheap as one of many side by side.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

ALIGNED_BYTES = 32  # what both addresses must be multiples of, and the length
_FLOATS = 8
_WORD = ir.IntType(64)


def _stream(typing_context, target, source, floats):  # type: ignore[no-untyped-def]
    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        vector = ir.VectorType(ir.FloatType(), _FLOATS)
        onto, of, length = arguments
        onto, of = (builder.inttoptr(address, vector.as_pointer()) for address in (onto, of))
        with cgutils.for_range(builder, builder.udiv(length, _WORD(_FLOATS))) as loop:
            loaded = builder.load(builder.gep(of, [loop.index]), align=ALIGNED_BYTES)
            stored = builder.store(loaded, builder.gep(onto, [loop.index]), align=ALIGNED_BYTES)
            stored.set_metadata("nontemporal", builder.module.add_metadata([ir.IntType(32)(1)]))
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, types.intp), generate


def _settle(typing_context):  # type: ignore[no-untyped-def]
    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        builder.fence("seq_cst")
        return context.get_dummy_value()

    return types.void(), generate


stream: Any = intrinsic(_stream)  # (target, source, floats): addresses and a number of float32
settle: Any = intrinsic(_settle)  # after the last of them, before anybody else reads

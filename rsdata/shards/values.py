"""One value of a shard: a safetensors dictionary from band name to array at native resolution.

Tensors lie in safetensors' own order and carry no metadata, as rico-hdl writes them, so equal pixels give equal bytes.
"""

from collections.abc import Mapping

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from rsdata.errors import ShardError


def encode(bands: Mapping[str, np.ndarray]) -> bytes:
    """Serialize bands (y, x) to bytes."""
    return save({name: np.ascontiguousarray(pixels) for name, pixels in bands.items()})


def decode(value: bytes, key: str) -> dict[str, np.ndarray]:
    """Read bands (y, x) back.

    Raises: ShardError if the value is not a safetensors dictionary.
    """
    try:
        return load(value)
    except (SafetensorError, ValueError, KeyError) as error:
        raise ShardError(
            f"the value of {key} is not a safetensors dictionary ({error}); the shard is damaged, make it again", key=key
        ) from error

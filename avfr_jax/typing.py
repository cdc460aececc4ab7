"""Array types with shapes, from jaxtyping; without this optional package they are plain names.

Axis names: `b` batch, `n` frames, `k` keypoints, `d h w` space, `c` channels.
"""

from typing import TYPE_CHECKING, Any

import jax
import numpy as np

if TYPE_CHECKING:
    from jax import Array
    from jaxtyping import Bool, Float, Int, Shaped, UInt8
else:
    Array = jax.Array | np.ndarray  # NumPy arrays are accepted wherever JAX arrays are

    try:
        from jaxtyping import Bool, Float, Int, Shaped, UInt8
    except ImportError:

        class _Plain:
            def __class_getitem__(cls, item: Any) -> Any:
                return Any

        Bool = Float = Int = Shaped = UInt8 = _Plain

__all__ = ["Array", "Bool", "Float", "Int", "Shaped", "UInt8"]

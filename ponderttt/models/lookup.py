"""Rows of a table by id, where an id that the table does not have can never pass for another."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int


def rows_of(
    table: Float[Array, "V D"], ids: Int[Array | np.ndarray, "*batch"]
) -> Float[Array, "*batch D"]:
    """`table[ids]`; NaN for ids below 0 and from V on.

    What reads tokens refuses such ids where values are known; under `jit` they are not, and an
    index below 0 would count from the end.
    """
    return (
        jnp.asarray(table).at[ids].get(mode="fill", fill_value=jnp.nan, wrap_negative_indices=False)
    )

"""What environments give: allocations of documents with what they lose and cost."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Float, Int


class Found(NamedTuple):
    """Allocations of each document, among which the oracle chooses."""

    loss: Float[Array | np.ndarray, "B W"]
    cost: Float[Array | np.ndarray, "B W"]
    action: Int[Array | np.ndarray, "B W N"]

"""The inner loop: fast weights, inner objectives and the descent, as pure functions on pytrees."""

from ponderttt.inner.descent import adapt as adapt
from ponderttt.inner.fast_weights import FAST_WEIGHTS as FAST_WEIGHTS
from ponderttt.inner.fast_weights import FastWeights as FastWeights
from ponderttt.inner.fast_weights import additive as additive
from ponderttt.inner.fast_weights import low_rank as low_rank
from ponderttt.inner.learn import learn as learn
from ponderttt.inner.objectives import Norm as Norm
from ponderttt.inner.objectives import Views as Views
from ponderttt.inner.objectives import read_out as read_out
from ponderttt.inner.objectives import reconstruction_gradient as reconstruction_gradient
from ponderttt.inner.objectives import reconstruction_loss as reconstruction_loss

"""Strictness for every test: no silent rank promotion, and caches of their own."""

import os
import tempfile

os.environ.setdefault("PONDERTTT_CACHE", tempfile.mkdtemp(prefix="ponderttt-test-cache-"))
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

import jax

jax.config.update("jax_numpy_rank_promotion", "raise")

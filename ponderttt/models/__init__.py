"""Slow weights: the decoder, its import and what is built on it."""

from ponderttt.models.adapters import NextToken as NextToken
from ponderttt.models.adapters import Reconstruction as Reconstruction
from ponderttt.models.adapters import ReconstructionLimit as ReconstructionLimit
from ponderttt.models.fast_weight_layer import FastWeightLayer as FastWeightLayer
from ponderttt.models.halting import HaltingPolicyNetwork as HaltingPolicyNetwork
from ponderttt.models.iterative import IterativeTransformerTTT as IterativeTransformerTTT
from ponderttt.models.iterative_config import (
    IterativeTransformerConfig as IterativeTransformerConfig,
)
from ponderttt.models.lm import TransformerLM as TransformerLM
from ponderttt.models.policy_network import PolicyNetwork as PolicyNetwork
from ponderttt.models.policy_network import PolicyNetworkConfig as PolicyNetworkConfig
from ponderttt.models.reference_ttt import ReferenceTTTConfig as ReferenceTTTConfig
from ponderttt.models.reference_ttt import ReferenceTTTLayer as ReferenceTTTLayer
from ponderttt.models.ttt_layer import TTTConfig as TTTConfig
from ponderttt.models.ttt_layer import TTTLayer as TTTLayer

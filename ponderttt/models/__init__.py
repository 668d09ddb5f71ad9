"""Slow weights: the decoder, its import and what is built on it."""

from ponderttt.models.adapters.next_token import NextToken as NextToken
from ponderttt.models.adapters.reconstruction import Reconstruction as Reconstruction
from ponderttt.models.adapters.reconstruction import ReconstructionLimit as ReconstructionLimit
from ponderttt.models.adapters.ttt_layer import TTTConfig as TTTConfig
from ponderttt.models.adapters.ttt_layer import TTTLayer as TTTLayer
from ponderttt.models.decoder.lm import TransformerLM as TransformerLM
from ponderttt.models.fast_weight_layer import FastWeightLayer as FastWeightLayer
from ponderttt.models.iterative.config import (
    IterativeTransformerConfig as IterativeTransformerConfig,
)
from ponderttt.models.iterative.halting import HaltingPolicyNetwork as HaltingPolicyNetwork
from ponderttt.models.iterative.model import IterativeTransformerTTT as IterativeTransformerTTT
from ponderttt.models.iterative.reference_ttt import ReferenceTTTConfig as ReferenceTTTConfig
from ponderttt.models.iterative.reference_ttt import ReferenceTTTLayer as ReferenceTTTLayer
from ponderttt.models.policy_network import PolicyNetwork as PolicyNetwork
from ponderttt.models.policy_network import PolicyNetworkConfig as PolicyNetworkConfig

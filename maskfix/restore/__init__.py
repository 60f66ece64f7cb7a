"""The paper's network: encoder, fusion, correspondence head, decoder, blending, Siamese wrapper, factory."""

from maskfix.restore.blend import blend_weight
from maskfix.restore.config import CONFIGS, SCALES, NetworkConfig
from maskfix.restore.decoder import Decoded
from maskfix.restore.early import CLEAN_COVERAGE, PREFIX, EarlyLook, EarlySight, split_early_look, unchanged
from maskfix.restore.factory import create_network, list_networks
from maskfix.restore.fusion import ChannelAttention, DualAttentionFusion, Fused
from maskfix.restore.network import CompletionNetwork
from maskfix.restore.runner import NetworkRunner
from maskfix.restore.siamese import SiameseNetwork, momentum_update
from maskfix.restore.widening import load_narrower, widen

__all__ = [
    "CLEAN_COVERAGE",
    "CONFIGS",
    "PREFIX",
    "SCALES",
    "ChannelAttention",
    "CompletionNetwork",
    "Decoded",
    "DualAttentionFusion",
    "EarlyLook",
    "EarlySight",
    "Fused",
    "NetworkConfig",
    "NetworkRunner",
    "SiameseNetwork",
    "blend_weight",
    "create_network",
    "list_networks",
    "load_narrower",
    "momentum_update",
    "split_early_look",
    "unchanged",
    "widen",
]

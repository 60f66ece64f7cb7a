"""The paper's network: encoder, fusion, correspondence head, multi-scale decoder, Siamese wrapper, factory."""

from maskfix.restore.config import CONFIGS, SCALES, NetworkConfig
from maskfix.restore.decoder import Decoded
from maskfix.restore.factory import create_network, list_networks
from maskfix.restore.fusion import ChannelAttention, DualAttentionFusion, Fused
from maskfix.restore.network import CompletionNetwork
from maskfix.restore.siamese import SiameseNetwork, momentum_update

__all__ = [
    "CONFIGS",
    "SCALES",
    "ChannelAttention",
    "CompletionNetwork",
    "Decoded",
    "DualAttentionFusion",
    "Fused",
    "NetworkConfig",
    "SiameseNetwork",
    "create_network",
    "list_networks",
    "momentum_update",
]

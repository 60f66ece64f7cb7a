"""The losses of the paper, one per file, and its objective over the decoder's scales."""

from maskfix.losses.adversarial import adversarial_loss, discriminator_loss
from maskfix.losses.correspondence import correspondence_loss
from maskfix.losses.identity import IDENTITY_FORMS, IdentityForm, IdentityLoss, identity_cosine_loss, identity_loss
from maskfix.losses.info_nce import InfoNCELoss, info_nce
from maskfix.losses.objective import Outputs, Targets, completion_objective
from maskfix.losses.occlusion import OcclusionLoss, dice_loss, occlusion_loss
from maskfix.losses.perceptual import perceptual_loss
from maskfix.losses.perturb import random_view
from maskfix.losses.reconstruction import reconstruction_loss
from maskfix.losses.relational import relational_loss
from maskfix.losses.style import gram, style_loss
from maskfix.losses.texture import TextureNetwork, TextureTarget, texture_target_of
from maskfix.losses.weights import PAPER_WEIGHTS, ObjectiveWeights

__all__ = [
    "IDENTITY_FORMS",
    "PAPER_WEIGHTS",
    "IdentityForm",
    "IdentityLoss",
    "InfoNCELoss",
    "ObjectiveWeights",
    "OcclusionLoss",
    "Outputs",
    "Targets",
    "TextureNetwork",
    "TextureTarget",
    "adversarial_loss",
    "completion_objective",
    "correspondence_loss",
    "dice_loss",
    "discriminator_loss",
    "gram",
    "identity_cosine_loss",
    "identity_loss",
    "info_nce",
    "occlusion_loss",
    "perceptual_loss",
    "random_view",
    "reconstruction_loss",
    "relational_loss",
    "style_loss",
    "texture_target_of",
]

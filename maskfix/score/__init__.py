"""Scores of pairs: unit embeddings in, cosine similarities out; and templates of several pictures."""

from maskfix.score.pairs import cosine_scores
from maskfix.score.template_pairs import pair_scores
from maskfix.score.templates import TemplatePooling, Templates, row_weights

__all__ = ["TemplatePooling", "Templates", "cosine_scores", "pair_scores", "row_weights"]

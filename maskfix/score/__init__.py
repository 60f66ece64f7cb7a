"""Scores of pairs: unit embeddings in, cosine similarities out."""

from maskfix.score.pairs import cosine_scores

__all__ = ["cosine_scores"]

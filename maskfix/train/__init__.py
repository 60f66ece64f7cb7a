"""Training: stage 1 (Siamese), stage 2 (completion), their configurations and checkpoints."""

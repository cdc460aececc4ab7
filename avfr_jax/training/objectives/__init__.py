"""Forward pass, evaluation and panels of each model family in training."""

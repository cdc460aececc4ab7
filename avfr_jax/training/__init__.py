"""Training: state, objectives (one a model family), the sharded step and the loop."""

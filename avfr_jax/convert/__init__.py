"""Published PyTorch checkpoints -> our parameter trees; one table of names a network. No PyTorch needed."""

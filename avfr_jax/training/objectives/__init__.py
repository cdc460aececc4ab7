"""What each model family is trained for."""

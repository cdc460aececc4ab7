"""Training runs: configs of published and of our own models, and the program that runs them."""

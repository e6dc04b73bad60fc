"""The training loop and what it stands on; it knows nothing of what it trains for."""

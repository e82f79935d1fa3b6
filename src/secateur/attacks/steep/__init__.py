"""Our own minimum-norm attack."""

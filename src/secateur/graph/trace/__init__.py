"""Record a forward pass as plain data, and leave the model as it was."""

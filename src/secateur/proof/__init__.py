"""The proof that the pruned network computes what the masked dense network computes."""

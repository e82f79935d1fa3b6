"""What the attack loops are made of: batches, the best query so far, norms and projections."""

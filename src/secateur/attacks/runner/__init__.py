"""Running an attack on a dataset: binding of settings, batches, counted queries, verification."""

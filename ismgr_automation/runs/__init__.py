"""Mechanics of durable steps only: keeping a lease, the leash on engines, sequencing, resuming. Knows no plan."""

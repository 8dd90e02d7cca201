"""What a plan needs before it may be applied, who counts, and whether the signatures suffice: pure rules, no I/O."""

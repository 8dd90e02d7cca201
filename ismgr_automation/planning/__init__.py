"""Change, Plan, envelope, waves, composition: the plan contract as pure code. No clock, disk, network or randomness."""

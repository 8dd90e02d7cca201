"""Values that every room speaks, without I/O: addresses, diagnostics, errors, events, digests, secret references."""

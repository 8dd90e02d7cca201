"""What we ask of the world: Protocols of one to six methods, the values that they take and return, memory doubles."""

"""One technology per file or package. Engines touch the world and decide nothing."""

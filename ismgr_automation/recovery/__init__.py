"""What a recovery plan means, what a drill may do next and what it has proven: pure decisions over what was read.
Nothing here has a clock, a disk, a network or a thread; carrying out is ``converge``'s."""

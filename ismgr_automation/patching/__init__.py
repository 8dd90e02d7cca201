"""What is due, why, when and on whom: pure decisions over what was read. Nothing here looks at a host, a clock or a
disk; carrying out is ``converge``'s."""

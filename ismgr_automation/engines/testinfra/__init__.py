"""Verification suites with pytest and testinfra, in child processes over our SSH connections. Decides nothing about
what a failed check means."""

"""Measures: how long and how much memory, as a table. Nothing here is a test, and no test looks at a time."""

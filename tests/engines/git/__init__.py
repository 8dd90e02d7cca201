"""Tests of the git engine, over real repositories."""

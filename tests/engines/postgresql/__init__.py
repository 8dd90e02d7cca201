"""Tests of PostgreSQL over SSH."""

"""Tests of SSH."""

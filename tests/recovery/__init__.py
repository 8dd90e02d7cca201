"""Tests of the pure decisions about losing a site and coming back."""

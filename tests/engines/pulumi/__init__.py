"""Tests of engines/pulumi."""

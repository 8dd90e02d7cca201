"""Tests of approval rules: no process, no clock."""

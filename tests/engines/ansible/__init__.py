"""Tests of Ansible."""

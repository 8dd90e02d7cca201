"""Tests of the reader of advisories, over real files and a real web site on a loopback port."""

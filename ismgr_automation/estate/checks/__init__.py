"""Checks that span documents: small pure functions from a draft to diagnostics. ``consistency`` lists them."""

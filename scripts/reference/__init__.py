"""Generates docs/reference from the code: one module a page, each giving the page's text. Invents nothing."""

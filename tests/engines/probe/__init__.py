"""The client that measures, against real servers."""

"""Pulumi: finding or getting its engine, and running stacks with it, each operation in a worker process of its own.

The SDK is imported in the worker only; nothing here decides what is applied."""

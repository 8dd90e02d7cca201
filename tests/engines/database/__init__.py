"""The database engine, on real files and a real server."""

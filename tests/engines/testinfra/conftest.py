from tests.engines.loopback import loopback_server

__all__ = ["loopback_server"]

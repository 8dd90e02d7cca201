"""How endpoints of services and name servers are written. Nothing is connected to here."""

from __future__ import annotations

DNS_PORT = 53


def place(endpoint: str, port: int) -> tuple[str, int]:
    """Host and port of ``HOST``, ``HOST:PORT`` or ``[ADDRESS]:PORT``; the port given where there is none."""
    host, colon, number = endpoint.rpartition(":")
    if not colon or not number.isdigit() or (":" in host and not host.startswith("[")):
        return endpoint.strip("[]"), port
    return host.strip("[]"), int(number)

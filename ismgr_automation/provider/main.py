"""``pulumi-resource-ismgr``: the plugin that Pulumi starts. It serves the provider and ends when the engine ends."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from concurrent.futures import ThreadPoolExecutor

THREADS = 64
"""Machines that are worked on at once: each waits for its BMC most of the time."""
GRACE_SECONDS = 3.0
"""For running calls, once the engine is gone."""


def main() -> None:
    """Serve until the engine ends. The first line on stdout is the port, as Pulumi's plugin protocol wants."""
    parent = os.getppid()  # before the slow imports: an engine that is killed meanwhile is noticed
    arguments = [word for word in sys.argv[1:] if not word.startswith("-")]
    if sys.argv[1:2] == ["--version"]:
        from ismgr_automation import __version__

        sys.stdout.write(f"{__version__}\n")
        return
    if len(arguments) != 1:
        sys.stderr.write("pulumi-resource-ismgr is started by Pulumi: put it on PATH and run pulumi.\n")
        sys.exit(1)
    logging.getLogger("sushy").addHandler(logging.NullHandler())  # its warnings repeat our errors, less clearly
    asyncio.run(_serve(arguments[0], parent))


async def _serve(engine_address: str, parent: int) -> None:
    # heavy: after the arguments are known to be right
    import grpc.aio  # type: ignore[import-untyped]
    from pulumi.runtime._grpc_settings import _GRPC_CHANNEL_OPTIONS
    from pulumi.runtime.proto import provider_pb2_grpc

    from ismgr_automation import __version__
    from ismgr_automation.provider.provider import IsmgrProvider
    from ismgr_automation.provider.servicer import Servicer

    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(THREADS, thread_name_prefix="resource"))
    provider = IsmgrProvider()
    server = grpc.aio.server(options=_GRPC_CHANNEL_OPTIONS)
    servicer = Servicer(sys.argv[1:], __version__, provider, engine_address=engine_address)
    provider_pb2_grpc.add_ResourceProviderServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    sys.stdout.write(f"{port}\n")
    sys.stdout.flush()
    await _asked_to_end(parent)
    await provider.cancel()
    await server.stop(GRACE_SECONDS)
    os._exit(0)  # a thread may still hang in a connection to a BMC; nobody is left who could use its answer


async def _asked_to_end(parent: int) -> None:
    """Returns at SIGINT or SIGTERM, with which Pulumi ends its plugins, or when the process that started us is gone: an
    engine that is killed ends nobody."""
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ended.set)
    try:
        loop.add_reader(os.pidfd_open(parent), ended.set)
    except ProcessLookupError:
        return
    if os.getppid() != parent:  # it went before we could watch it, and its number may be another's now
        return
    await ended.wait()


if __name__ == "__main__":
    main()

"""The provider as a process, and the words to speak to it as the engine does."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
from google.protobuf import struct_pb2
from pulumi.runtime import rpc
from pulumi.runtime.proto import provider_pb2 as p
from pulumi.runtime.proto import provider_pb2_grpc

SERVER = "urn:pulumi:test::tests::ismgr:redfish:Server::db1.dc1"
RECORDS = "urn:pulumi:test::tests::custom:site:Site$ismgr:dns:RecordSet::www"
PLUGIN = Path(sys.executable).parent / "pulumi-resource-ismgr"


@contextmanager
def plugin(**environment):
    """A provider process of our own and a stub to speak to it."""
    process = subprocess.Popen(
        [PLUGIN, "127.0.0.1:1"],
        stdout=subprocess.PIPE,
        env={"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), **environment},
    )
    try:
        assert process.stdout
        port = int(process.stdout.readline())
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            stub = provider_pb2_grpc.ResourceProviderStub(channel)
            stub.Configure(p.ConfigureRequest(acceptSecrets=True))
            yield process, stub
    finally:
        process.kill()
        process.wait(10)
        process.stdout.close()


def secret(value):
    return {rpc._special_sig_key: rpc._special_secret_sig, "value": value}


def struct(body):
    made = struct_pb2.Struct()
    made.update(body)
    return made


def fails(call, request):
    with pytest.raises(grpc.RpcError) as caught:
        call(request)
    return caught.value

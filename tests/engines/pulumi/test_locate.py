"""Finding and getting the Pulumi engine, with stand-ins for `pulumi`, `go` and the vendor's server."""

from __future__ import annotations

import fcntl
import hashlib
import io
import json
import os
import stat
import tarfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from ismgr_automation.core.errors import Cancelled, EngineFailed, EngineMissing
from ismgr_automation.core.events import StepReported
from ismgr_automation.engines.pulumi import build, locate
from ismgr_automation.engines.pulumi.download import tarball_name
from ismgr_automation.engines.pulumi.locate import PINNED, Engine, Origin, Settings


def script(path: Path, body: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


def pulumi(path: Path, version: str = PINNED) -> Path:
    return script(path, f"echo v{version}")


@pytest.fixture
def where(tmp_path: Path) -> Settings:
    """A machine with no engine: an empty PATH folder, an empty cache, releases at a port where nobody listens."""
    (tmp_path / "bin").mkdir()
    return Settings(
        cache=tmp_path / "cache",
        releases="http://127.0.0.1:9/releases",
        connect_timeout=timedelta(seconds=30),
        variables={"PATH": f"{tmp_path / 'bin'}", "HOME": str(tmp_path)},
    )


def with_system_path(where: Settings) -> Settings:
    return replace(where, variables={**where.variables, "PATH": f"{where.variables['PATH']}:/usr/bin:/bin"})


def go(where: Settings, body: str) -> Settings:
    script(Path(where.variables["PATH"]) / "go", body)
    return with_system_path(where)


GO_BUILDS = """
test "$1" = build || exit 9
test -f go.mod && test -f go.sum || exit 8
for last; do :; done
echo "$GOMODCACHE $GOCACHE $CGO_ENABLED $GOFLAGS $last $*" > "$HOME/said"
echo "go: downloading example.org/module v1" >&2
mkdir -p "$GOMODCACHE/readonly" && touch "$GOMODCACHE/readonly/file" && chmod 500 "$GOMODCACHE/readonly"
while [ "$1" != -o ]; do shift; done
printf '#!/bin/sh\\necho v3.230.0\\n' > "$2" && chmod 755 "$2"
"""


# ---- finding


def test_an_engine_on_path_is_used(where, tmp_path):
    path = pulumi(tmp_path / "bin" / "pulumi", "3.231.4")
    assert locate.find(where) == Engine(path=path, version="3.231.4", origin=Origin.PATH)


def test_an_engine_that_the_setting_names_comes_first(where, tmp_path):
    pulumi(tmp_path / "bin" / "pulumi")
    own = pulumi(tmp_path / "own" / "engine", "3.240.0-alpha.1")
    found = locate.find(replace(where, engine=own))
    assert (found.path, found.version, found.origin) == (own, "3.240.0", Origin.SETTING)


def test_a_setting_that_cannot_be_used_is_an_error_although_another_engine_is_there(where, tmp_path):
    pulumi(tmp_path / "bin" / "pulumi")
    with pytest.raises(EngineMissing) as caught:
        locate.find(replace(where, engine=tmp_path / "nowhere"))
    assert f"ISMGR_ENGINE={tmp_path / 'nowhere'}: no such file or directory" in str(caught.value)


@pytest.mark.parametrize("version", ["3.226.9", "2.24.0", "4.0.0"])
def test_an_engine_of_another_age_is_passed_over_for_the_cache(where, tmp_path, version):
    pulumi(tmp_path / "bin" / "pulumi", version)
    cached = pulumi(where.cached)
    assert locate.find(where) == Engine(path=cached, version=PINNED, origin=Origin.CACHE)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("echo v3.100.0", "version 3.100.0, and 3.227.0 or newer of major 3 is needed"),
        ("echo hello", "it does not say a version"),
        ("exit 3", "it does not say a version"),
    ],
)
def test_the_error_lists_what_was_looked_at_and_each_way_to_get_one(where, tmp_path, body, words):
    path = script(tmp_path / "bin" / "pulumi", body)
    with pytest.raises(EngineMissing) as caught:
        locate.find(where)
    text = str(caught.value)
    assert f"looked at: {path}: {words}" in text
    assert f"looked at: {where.cached}: not there" in text
    assert "ismgr engine install" in text
    assert "PATH" in text
    assert "ISMGR_ENGINE=" in text
    assert caught.value.reason == "engine-missing"


def test_an_empty_machine_says_so(where):
    with pytest.raises(EngineMissing, match="PATH: no `pulumi` there"):
        locate.find(where)


def test_settings_come_from_the_environment(tmp_path):
    found = locate.settings(
        {
            "ISMGR_ENGINE": "/opt/pulumi",
            "ISMGR_ENGINE_CACHE": str(tmp_path),
            "ISMGR_ENGINE_RELEASES": "https://mirror.test",
        }
    )
    assert (found.engine, found.cache, found.releases) == (Path("/opt/pulumi"), tmp_path, "https://mirror.test")
    assert found.cached == tmp_path / PINNED / "pulumi"


def test_the_pinned_engine_is_that_of_the_sdk_and_of_the_module_files():
    from importlib.metadata import version

    assert version("pulumi") == PINNED
    module = (Path(build.__file__).parent / "gomodule" / "go.mod").read_text()
    assert f"github.com/pulumi/pulumi/pkg/v3 v{PINNED}" in module
    assert f"github.com/pulumi/pulumi/sdk/v3 v{PINNED}" in module


# ---- the vendor's release


class Releases(ThreadingHTTPServer):
    """A server with the vendor's layout."""

    daemon_threads = True

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        files = self.files

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = files.get(self.path)
                self.send_response(200 if body is not None else 404)
                self.end_headers()
                self.wfile.write(body or b"")

            def log_message(self, *_: object) -> None:
                return

        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def publish(self, members: dict[str, bytes], checksum: str | None = None) -> None:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
            for name, data in members.items():
                info = tarfile.TarInfo(name)
                info.size, info.mode = len(data), 0o755
                archive.addfile(info, io.BytesIO(data))
        name, data = tarball_name(PINNED), buffer.getvalue()
        digest = checksum or hashlib.sha256(data).hexdigest()
        self.files[f"/v{PINNED}/{name}"] = data
        self.files[f"/v{PINNED}/pulumi-{PINNED}-checksums.txt"] = f"00ff  other.tar.gz\n{digest}  {name}\n".encode()


@pytest.fixture
def releases() -> Iterator[Releases]:
    server = Releases()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


GOOD = {"pulumi/pulumi": b"#!/bin/sh\necho v3.230.0\n", "pulumi/pulumi-language-python": b"x", "pulumi/other": b"y"}


def test_the_release_is_downloaded_verified_and_kept(where, releases):
    releases.publish(GOOD)
    events: list[StepReported] = []
    found = build.install(replace(where, releases=releases.url), events.append)
    assert found == Engine(path=where.cached, version=PINNED, origin=Origin.CACHE)
    assert sorted(path.name for path in where.cached.parent.iterdir()) == ["pulumi", "pulumi-language-python"]
    assert where.cached.stat().st_mode & stat.S_IXUSR
    assert sorted(path.name for path in where.cache.iterdir()) == [".lock", PINNED]
    assert [one.step for one in events] == ["download the engine", "the vendor's release"]
    releases.files.clear()
    assert build.install(replace(where, releases=releases.url)) == found


@pytest.mark.parametrize(
    ("members", "checksum", "words"),
    [
        (GOOD, "ab" * 32, "its checksum file says abab"),
        ({"pulumi/other": b"y"}, None, "holds no pulumi/pulumi"),
        ({**GOOD, "pulumi/pulumi": b"#!/bin/sh\necho v3.9.9\n"}, None, "is not engine 3.230.0"),
        ({**GOOD, "pulumi/pulumi": b"\x7fELF broken"}, None, "cannot start pulumi"),
    ],
)
def test_a_release_that_is_not_what_it_should_be_is_thrown_away(where, releases, members, checksum, words):
    releases.publish(members, checksum)
    with pytest.raises(EngineMissing) as caught:
        build.install(replace(where, releases=releases.url))
    assert "looked at: the vendor's release: " in str(caught.value)
    assert words in str(caught.value)
    assert sorted(path.name for path in where.cache.iterdir()) == [".lock"]


def test_a_release_with_a_link_out_of_the_folder_writes_nothing_there(where, releases, tmp_path):
    releases.publish({**GOOD, "../../evil": b"x", "/tmp/ismgr-evil": b"x"})
    build.install(replace(where, releases=releases.url))
    assert not list(tmp_path.rglob("*evil"))
    assert not Path("/tmp/ismgr-evil").exists()


def test_a_checksum_file_that_does_not_name_the_tarball_is_refused(where, releases):
    releases.publish(GOOD)
    releases.files[f"/v{PINNED}/pulumi-{PINNED}-checksums.txt"] = b"00ff  other.tar.gz\n"
    with pytest.raises(EngineMissing, match="does not name"):
        build.install(replace(where, releases=releases.url))


def test_a_release_that_is_not_there_says_the_answer(where, releases):
    with pytest.raises(EngineMissing, match="answers 404"):
        build.install(replace(where, releases=releases.url))


def test_a_server_that_never_answers_is_waited_for_no_longer_than_agreed(where):
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(EngineMissing, match="timed out"):
            build.install(replace(where, releases=url, connect_timeout=timedelta(seconds=0.3)))


# ---- the build


def test_where_no_release_can_be_reached_the_engine_is_built_and_only_it_is_kept(where, tmp_path):
    where = go(where, GO_BUILDS)
    events: list[StepReported] = []
    assert build.install(where, events.append).path == where.cached
    modules, objects, cgo, *rest = (tmp_path / "said").read_text().split()
    assert cgo == "0"
    assert "-mod=readonly" in rest
    assert "github.com/pulumi/pulumi/pkg/v3/cmd/pulumi" in rest
    assert "github.com/pulumi/pulumi/sdk/v3/go/common/version.Version=v3.230.0" in " ".join(rest)
    for folder in (modules, objects):
        assert Path(folder).is_relative_to(where.cache)
        assert not Path(folder).exists()
    assert sorted(path.name for path in where.cache.iterdir()) == [".lock", PINNED]
    assert [path.name for path in where.cached.parent.iterdir()] == ["pulumi"]
    assert locate.find(where).path == where.cached


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("echo 'go: go.mod requires go >= 1.25.8 (running go 1.19)' >&2; exit 1", "requires go >= 1.25.8"),
        ("echo 'write x: no space left on device' >&2; exit 1", "no space left on device"),
    ],
)
def test_a_build_that_fails_says_gos_own_words_and_leaves_nothing(where, body, words):
    where = go(where, body)
    with pytest.raises(EngineMissing) as caught:
        build.install(where)
    assert "looked at: the vendor's release: " in str(caught.value)
    assert "looked at: go build: " in str(caught.value)
    assert words in str(caught.value)
    assert sorted(path.name for path in where.cache.iterdir()) == [".lock"]


def test_a_machine_without_go_says_so(where):
    with pytest.raises(EngineMissing, match="There is no `go` on PATH"):
        build.install(where)


def test_a_disk_without_room_for_a_build_is_said_before_it_begins(where, monkeypatch):
    monkeypatch.setattr(build, "BUILD_NEEDS_BYTES", 10**18)
    where = go(where, GO_BUILDS)
    with pytest.raises(EngineMissing, match="GB free"):
        build.install(where)


def test_a_build_can_be_stopped_and_leaves_nothing(where):
    where = go(where, "echo started > $HOME/said; sleep 300")
    cancelled = threading.Event()

    def watch(event: StepReported) -> None:
        if event.step == "build the engine":
            cancelled.set()

    with pytest.raises(Cancelled):
        build.install(where, watch, cancelled)
    assert sorted(path.name for path in where.cache.iterdir()) == [".lock"]


def test_two_builders_do_not_race(where, tmp_path):
    where = go(where, GO_BUILDS + 'echo x >> "$HOME/builds"')
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda _: build.install(where), range(2)))
    assert found[0] == found[1]
    assert (tmp_path / "builds").read_text().split() == ["x"]


def test_waiting_for_another_builder_is_said_and_can_be_stopped(where):
    where.cache.mkdir(parents=True)
    cancelled = threading.Event()
    events: list[StepReported] = []

    def watch(event: StepReported) -> None:
        events.append(event)
        cancelled.set()

    with (where.cache / ".lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(Cancelled):
            build.install(where, watch, cancelled)
    assert [one.step for one in events] == ["wait"]


def test_a_cache_that_cannot_be_made_is_an_engine_error(where, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(EngineFailed, match="cannot be written"):
        build.install(replace(where, cache=tmp_path / "file" / "cache"))


def test_force_gets_our_own_although_another_is_there(where, tmp_path):
    pulumi(tmp_path / "bin" / "pulumi")
    where = go(where, GO_BUILDS)
    assert build.install(where).origin is Origin.PATH
    assert build.install(where, force=True).path == where.cached
    assert build.install(where, force=True).path == where.cached
    assert sorted(path.name for path in where.cache.iterdir()) == [".lock", PINNED]


def test_removing_empties_the_cache_and_says_how_much(where):
    assert build.remove(where) == 0
    pulumi(where.cached)
    left = where.cache / ".getting-abc" / "modules"
    left.mkdir(parents=True)
    (left / "file").write_bytes(b"x" * 1000)
    left.chmod(0o500)
    assert build.remove(where) > 1000
    assert [path.name for path in where.cache.iterdir()] == [".lock"]


# ---- the command


@pytest.fixture
def command(where, monkeypatch, capsys):
    from ismgr_automation.cli import main

    def run(*arguments: str) -> tuple[int, str]:
        code = main.run(list(arguments))
        out = capsys.readouterr()
        return code, out.out + out.err

    for name, value in {
        "PATH": where.variables["PATH"],
        "ISMGR_ENGINE_CACHE": str(where.cache),
        "ISMGR_ENGINE_RELEASES": where.releases,
        "ISMGR_ENGINE": "",
    }.items():
        monkeypatch.setenv(name, value)
    return run


def test_the_command_shows_the_engine(command, where):
    path = pulumi(Path(where.variables["PATH"]) / "pulumi")
    assert command("engine") == (0, f"Pulumi {PINNED}, found on PATH: {path}\n")
    code, text = command("--json", "engine")
    assert code == 0
    assert json.loads(text) == {
        "format": "ismgr.result/1", "type": "engine", "name": "pulumi", "version": PINNED,
        "path": str(path), "origin": "path", "cache": str(where.cache),
    }  # fmt: skip


def test_the_command_says_what_is_missing_with_exit_code_4(command):
    code, text = command("engine")
    assert code == 4
    assert "No usable Pulumi engine" in text
    assert "ismgr engine install" in text


def test_the_command_gets_and_removes_an_engine(command, where, releases, monkeypatch):
    releases.publish(GOOD)
    monkeypatch.setenv("ISMGR_ENGINE_RELEASES", releases.url)
    monkeypatch.setenv("PATH", f"{os.environ['PATH']}:/usr/bin:/bin")
    code, text = command("engine", "install")
    assert code == 0
    assert f"in our own cache: {where.cached}" in text
    code, text = command("engine", "remove")
    assert code == 0
    assert str(where.cache) in text
    assert not where.cached.exists()

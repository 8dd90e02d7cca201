"""Gets an engine into our cache: the vendor's release where it can be reached, else a build of the public Go module
whose every dependency is pinned by hash beside this file. One builder at a time; the cache changes by one rename."""

from __future__ import annotations

import contextlib
import fcntl
import importlib.resources
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Event as Flag

from ismgr_automation.core.errors import (
    Cancelled,
    EngineError,
    EngineFailed,
    EngineMissing,
    IsmgrError,
)
from ismgr_automation.core.events import Emit, StepReported, ignore
from ismgr_automation.engines import process
from ismgr_automation.engines.pulumi.download import release
from ismgr_automation.engines.pulumi.locate import (
    PINNED,
    Engine,
    Origin,
    Settings,
    ask_version,
    find,
    missing,
    read_version,
    settings,
)

PACKAGE = "github.com/pulumi/pulumi/pkg/v3/cmd/pulumi"
STAMP = "github.com/pulumi/pulumi/sdk/v3/go/common/version.Version"

BUILD_NEEDS_BYTES = 4_000_000_000
"""Module and build caches of a cold build (measured: 2.2 GB and 0.9 GB, removed afterwards) with room to spare."""

_REPORT_EVERY = 200
_LOOK_SECONDS = 0.2

_GO_VARIABLES = (
    *("PATH", "HOME", "LANG", "TMPDIR", "XDG_CONFIG_HOME"),
    *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "NETRC"),
    *("GOPROXY", "GOSUMDB", "GONOSUMDB", "GONOSUMCHECK", "GOPRIVATE", "GONOPROXY", "GOINSECURE", "GOAUTH", "GOENV"),
    *("GOROOT", "GOTOOLCHAIN", "GOMAXPROCS"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One way to get an engine: its name, and what it does with an empty folder; returns the engine's path in it."""

    name: str
    get: Callable[[Settings, Path, Emit, Flag], Path]


def install(
    where: Settings | None = None, emit: Emit = ignore, cancelled: Flag | None = None, *, force: bool = False
) -> Engine:
    """A usable engine: the one that is there, else one that is got now into our cache.

    ``force`` gets one even if another is there. Progress comes as ``StepReported`` events. Raises ``EngineMissing``
    with what each way said when none worked, ``EngineFailed`` when the disk is full, ``Cancelled``.
    """
    where = where or settings()
    cancelled = cancelled or Flag()
    if not force:
        with contextlib.suppress(EngineMissing):
            return find(where)
    with _a_bad_disk_is_an_engine_error(where), _alone(where, emit, cancelled):
        # another builder may have been faster
        if force or not where.cached.exists() or ask_version(where.cached) is None:
            _get(where, emit, cancelled)
    return Engine(path=where.cached, version=where.version, origin=Origin.CACHE)


def remove(where: Settings | None = None, cancelled: Flag | None = None) -> int:
    """Empty our cache of engines, interrupted builds included; returns the bytes that were freed."""
    where = where or settings()
    if not where.cache.exists():
        return 0
    with _alone(where, ignore, cancelled or Flag()):
        freed = sum(path.lstat().st_size for path in where.cache.rglob("*") if path.is_file() and not path.is_symlink())
        for entry in where.cache.iterdir():
            if entry.name != _LOCK:
                _remove(entry)
    return freed


def _get(where: Settings, emit: Emit, cancelled: Flag) -> None:
    looked: list[str] = []
    for way in WAYS:
        began = time.monotonic()
        scratch = Path(tempfile.mkdtemp(prefix=".getting-", dir=where.cache))
        try:
            home = scratch / "result"
            home.mkdir()
            engine = way.get(where, home, emit, cancelled)
            _check(where, engine)
            _publish(home, where.cached.parent)
        except Cancelled:
            raise
        except EngineError as problem:
            looked.append(f"{way.name}: {_one_line(problem)}")
            emit(StepReported(step=way.name, detail=f"not possible: {problem.summary}"))
        else:
            emit(StepReported(step=way.name, detail=str(where.cached), seconds=time.monotonic() - began))
            return
        finally:
            _remove(scratch)
    raise missing(where, looked)


def _download(where: Settings, into: Path, emit: Emit, cancelled: Flag) -> Path:
    emit(StepReported(step="download the engine", detail=f"release {where.version} from {where.releases}"))
    return release(where, into, cancelled)


def _build(where: Settings, into: Path, emit: Emit, cancelled: Flag) -> Path:
    if where.version != PINNED:
        raise EngineFailed(
            f"Only {PINNED} is pinned for a build, and {where.version} was asked for.",
            engine="pulumi",
            next_step=f"Ask for {PINNED}.",
        )
    go = shutil.which("go", path=where.variables.get("PATH", os.defpath))
    if go is None:
        raise EngineFailed(
            "There is no `go` on PATH.", engine="go", next_step="Install Go 1.25.8 or newer to build the engine."
        )
    _enough_room(where)
    scratch = into.parent
    module = _module(scratch)
    emit(StepReported(step="build the engine", detail=f"{PACKAGE} {where.version}; two to three minutes on two cores"))
    done = process.run(
        [
            go,
            "build",
            "-v",
            "-trimpath",
            "-ldflags",
            f"-s -w -X {STAMP}=v{where.version}",
            "-o",
            str(into / "pulumi"),
            PACKAGE,
        ],
        engine="go",
        subject=f"pulumi {where.version}",
        deadline=where.build_deadline,
        cwd=module,
        env=_go_environment(where.variables, scratch),
        on_stderr=_progress(emit),
        cancelled=cancelled,
    )
    if done.code != 0:
        words = [line for line in done.stderr.splitlines() if not line.startswith("go: downloading")]
        raise EngineFailed(
            f"`go build` ended with code {done.code}: {' '.join(words[-3:])}",
            engine="go",
            subject=f"pulumi {where.version}",
            next_step="Go 1.25.8 or newer, and a module proxy that it can reach, are needed.",
            detail="\n".join(words[-process.TAIL_LINES :]),
        )
    return into / "pulumi"


WAYS = (Way(name="the vendor's release", get=_download), Way(name="go build", get=_build))
"""In this order: a release is seconds, a build is minutes."""


def _go_environment(variables: Mapping[str, str], scratch: Path) -> dict[str, str]:
    """Go's own caches lie below the scratch folder, so that they leave with it; how to reach modules is the user's."""
    folders = {"GOMODCACHE": "modules", "GOCACHE": "objects", "GOTMPDIR": "tmp", "GOPATH": "path"}
    for folder in folders.values():
        (scratch / folder).mkdir()
    return {
        **{name: variables[name] for name in _GO_VARIABLES if name in variables},
        **{name: str(scratch / folder) for name, folder in folders.items()},
        "CGO_ENABLED": "0",
        "GOFLAGS": "-mod=readonly -modcacherw -buildvcs=false",
        "GOWORK": "off",
        "GO111MODULE": "on",
    }


def _module(scratch: Path) -> Path:
    module = scratch / "module"
    module.mkdir()
    pinned = importlib.resources.files("ismgr_automation.engines.pulumi") / "gomodule"
    for name in ("go.mod", "go.sum"):
        (module / name).write_bytes((pinned / name).read_bytes())
    return module


def _progress(emit: Emit) -> Callable[[str], None]:
    counts = {"downloaded": 0, "compiled": 0}

    def on_line(line: str) -> None:
        kind = "downloaded" if line.startswith("go: downloading") else "compiled"
        counts[kind] += 1
        if counts[kind] % _REPORT_EVERY == 0:
            said = f"{counts['downloaded']} modules downloaded, {counts['compiled']} packages compiled"
            emit(StepReported(step="build the engine", detail=said))

    return on_line


def _check(where: Settings, engine: Path) -> None:
    version = ask_version(engine)
    if version is None or version != read_version(where.version):
        raise EngineFailed(
            f"What was got is not engine {where.version}: it says {version}.",
            engine="pulumi",
            next_step="It was thrown away.",
        )


def _publish(home: Path, final: Path) -> None:
    """Rename into place; the old folder, if any, goes first and is at no time half there."""
    old = final.with_name(f".old-{os.getpid()}-{final.name}")
    if final.exists():
        final.rename(old)
    home.rename(final)
    _remove(old)


def _enough_room(where: Settings) -> None:
    free = shutil.disk_usage(where.cache).free
    if free < BUILD_NEEDS_BYTES:
        raise EngineFailed(
            f"A build needs {BUILD_NEEDS_BYTES / 1e9:.0f} GB for a while; {where.cache} has {free / 1e9:.1f} GB free.",
            engine="go",
            next_step="Free some space, or set ISMGR_ENGINE_CACHE to a folder on a larger disk.",
        )


_LOCK = ".lock"


@contextlib.contextmanager
def _alone(where: Settings, emit: Emit, cancelled: Flag) -> Iterator[None]:
    """Hold the cache's lock; the kernel frees it with the process that holds it, however that ends."""
    where.cache.mkdir(parents=True, exist_ok=True)
    with (where.cache / _LOCK).open("a+b") as file:
        waited = False
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not waited:
                    emit(StepReported(step="wait", detail=f"another process works on {where.cache}"))
                waited = True
            if cancelled.wait(_LOOK_SECONDS):
                raise Cancelled("Stopped while waiting for another builder of the engine.")
        yield


@contextlib.contextmanager
def _a_bad_disk_is_an_engine_error(where: Settings) -> Iterator[None]:
    try:
        yield
    except OSError as problem:
        raise EngineFailed(
            f"The engine's cache {where.cache} cannot be written: {problem.strerror}.",
            engine="pulumi",
            untouched="Nothing was left there.",
            next_step="Free some space, or set ISMGR_ENGINE_CACHE to another folder.",
        ) from problem


def _remove(path: Path) -> None:
    """Remove a file or folder; Go makes some of its folders read-only, which would stop an ordinary user."""
    if not path.is_dir() or path.is_symlink():
        path.unlink(missing_ok=True)
        return
    for folder, _, _ in os.walk(path):
        Path(folder).chmod(stat.S_IRWXU)
    shutil.rmtree(path)


def _one_line(problem: IsmgrError) -> str:
    words = f"{problem.summary} {problem.next_step}".strip()
    return " ".join(words.split())

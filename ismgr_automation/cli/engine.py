"""`ismgr engine`: which Pulumi engine is used, and how to get one or to clean up. It shows; `engines/pulumi` works."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ismgr_automation.cli.face import Face

if TYPE_CHECKING:
    from rich.console import Console

    from ismgr_automation.engines.pulumi.locate import Engine, Settings

EPILOG = """Examples:

  ismgr engine                      which engine is used, its version and where it lies

  ismgr engine install              get one: the vendor's release, else a build with Go (two to three minutes)

  ismgr engine install --force      get our own although another one is on PATH

  ismgr engine remove               empty our cache

Looked at, in this order: ISMGR_ENGINE, `pulumi` on PATH, our cache. ISMGR_ENGINE_CACHE is another folder for the
cache, ISMGR_ENGINE_RELEASES another place with the vendor's releases.
"""

INSTALL_EPILOG = """Examples:

  ismgr engine install

  ISMGR_ENGINE_RELEASES=https://mirror.example.org/pulumi ismgr engine install --force

Exit codes: 0 there is an engine, 4 none could be got, 130 stopped.
"""

REMOVE_EPILOG = """Examples:

  ismgr engine remove

An engine on PATH, or one that ISMGR_ENGINE names, stays as it is.
"""


def register(app: typer.Typer) -> None:
    """Add `ismgr engine` and the commands below it."""
    topic = typer.Typer(
        invoke_without_command=True,
        help="Which Pulumi engine is used, and how to get one.",
        context_settings={"help_option_names": ["-h", "--help"]},
        epilog=EPILOG,
    )
    topic.callback()(show)
    topic.command("install", epilog=INSTALL_EPILOG)(install)
    topic.command("remove", epilog=REMOVE_EPILOG)(remove)
    app.add_typer(topic, name="engine")


def show(ctx: typer.Context) -> None:
    """Show the Pulumi engine that is used: version, where it lies, and how it came there."""
    if ctx.invoked_subcommand is not None:
        return
    from ismgr_automation.engines.pulumi.locate import find, settings

    where = settings()
    _result(ctx.obj, find(where), where)


def install(
    ctx: typer.Context,
    force: Annotated[bool, typer.Option("--force", help="Get our own even if another one is there.")] = False,
) -> None:
    """Get an engine if none is there: the vendor's release where it can be reached, else a build with Go."""
    from ismgr_automation.engines.pulumi.build import install as get
    from ismgr_automation.engines.pulumi.locate import settings

    face: Face = ctx.obj
    where = settings()
    _result(face, get(where, face.emit, face.cancelled, force=force), where)


def remove(ctx: typer.Context) -> None:
    """Empty our cache of engines."""
    from ismgr_automation.engines.pulumi.build import remove as clean
    from ismgr_automation.engines.pulumi.locate import settings

    face: Face = ctx.obj
    where = settings()
    freed = clean(where, face.cancelled)
    face.result(
        {"type": "engine-removed", "cache": str(where.cache), "freed_bytes": freed},
        lambda console: console.print(f"Removed {freed / 1e6:.0f} MB from {where.cache}."),
    )


_HOW = {
    "setting": "named by ISMGR_ENGINE",
    "path": "found on PATH",
    "cache": "in our own cache",
}


def _result(face: Face, engine: Engine, where: Settings) -> None:
    def human(console: Console) -> None:
        console.print(f"Pulumi {engine.version}, {_HOW[engine.origin]}: {engine.path}", markup=False)

    face.result(
        {
            "type": "engine",
            "name": "pulumi",
            "version": engine.version,
            "path": str(engine.path),
            "origin": str(engine.origin),
            "cache": str(where.cache),
        },
        human,
    )

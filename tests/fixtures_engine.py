"""The Pulumi engine for tests: found, or got once, by the product's own code."""

from __future__ import annotations

from pathlib import Path

import pytest

from ismgr_automation.engines.pulumi.locate import Engine


@pytest.fixture(scope="session")
def pulumi_engine() -> Engine:
    """The engine of this machine. Where there is none it is got as `ismgr engine install` gets it: that may take
    minutes, once."""
    from ismgr_automation.engines.pulumi.build import install

    return install()


@pytest.fixture(scope="session")
def pulumi_engine_path(pulumi_engine: Engine) -> Path:
    """Where the engine lies."""
    return pulumi_engine.path

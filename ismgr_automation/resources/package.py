"""What all our resource classes share: the provider's version, pinned, and the bag of properties that Pulumi wants."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pulumi

from ismgr_automation import __version__


def options(given: pulumi.ResourceOptions | None) -> pulumi.ResourceOptions:
    """The program's options with the version of the provider that these classes are made for."""
    return pulumi.ResourceOptions.merge(pulumi.ResourceOptions(version=__version__), given)


def bag(kind: type, inputs: Mapping[str, Any], outputs: tuple[str, ...]) -> Any:
    """An input object of Pulumi's. Names that are outputs only must be in it too, or the program never gets them."""
    made: Any = object.__new__(kind)
    made.__dict__.update({**dict.fromkeys(outputs), **inputs})
    return made


def secret(value: pulumi.Input[str] | None) -> pulumi.Input[str] | None:
    """The value marked secret, so that it is encrypted in the state."""
    return None if value is None else pulumi.Output.secret(value)

"""Secret backends: environment variables, private files, ansible-vault, HashiCorp Vault. Opens references; never writes
or prints a value, and keeps none."""

from ismgr_automation.engines.secrets.backends import Backends
from ismgr_automation.engines.secrets.description import VARIABLE, own_references
from ismgr_automation.engines.secrets.kinds import (
    LARGEST_BYTES,
    AnsibleVault,
    Backend,
    EnvironmentVariables,
    HashicorpVault,
    PrivateFiles,
)

__all__ = [
    "LARGEST_BYTES",
    "VARIABLE",
    "AnsibleVault",
    "Backend",
    "Backends",
    "EnvironmentVariables",
    "HashicorpVault",
    "PrivateFiles",
    "own_references",
]

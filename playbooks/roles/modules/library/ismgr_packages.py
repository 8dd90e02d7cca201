"""Ansible module: Debian packages that must be there. It never removes or upgrades one."""

from __future__ import annotations

import time
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: ismgr_packages
short_description: Install missing Debian packages
description:
  - Asks dpkg, and nobody else, whether the packages are installed. Only when one is missing are the package lists
    read again (if they are older than I(lists_valid)) and the missing ones installed, so a host that has them needs
    no network.
  - M(ansible.builtin.apt) with a cache time goes to the network for old lists even when nothing is missing, and
    without lists it cannot answer in check mode. This one says in check mode which packages it would install.
options:
  names: {description: Package names., type: list, elements: str, required: true}
  lists_valid: {description: Seconds for which package lists count as fresh., type: int, default: 3600}
  lock_timeout: {description: Seconds to wait for another apt or dpkg., type: int, default: 120}
"""

RETURN = r"""
missing:
  description: What was installed, or in check mode would be.
  type: list
  returned: always
"""

LISTS = Path("/var/lib/apt/lists")
QUIET = {"DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}


def absent(module, names):
    """The names that dpkg does not call installed, in order."""
    _, out, _ = module.run_command(["dpkg-query", "--show", "--showformat=${Package} ${db:Status-Status}\\n", *names])
    there = {line.split()[0] for line in out.splitlines() if line.endswith(" installed")}
    return [name for name in names if name not in there]


def stale(valid):
    """Whether the package lists are missing or too old."""
    files = [path for path in LISTS.glob("*_Packages*") if path.is_file()] if LISTS.is_dir() else []
    return not files or LISTS.stat().st_mtime + valid < time.time()


def apt_get(module, *words):
    lock = f"DPkg::Lock::Timeout={module.params['lock_timeout']}"
    command = ["apt-get", "--quiet", "--yes", "--option", lock, "--option", "Dpkg::Options::=--force-confold", *words]
    code, out, err = module.run_command(command, environ_update=QUIET)
    if code:
        module.fail_json(msg=f"apt-get {words[0]} failed: {err.strip() or out.strip()}")


def main():
    module = AnsibleModule(
        argument_spec={
            "names": {"type": "list", "elements": "str", "required": True},
            "lists_valid": {"type": "int", "default": 3600},
            "lock_timeout": {"type": "int", "default": 120},
        },
        supports_check_mode=True,
    )
    missing = absent(module, module.params["names"])
    result = {"changed": bool(missing), "missing": missing}
    if module._diff and missing:  # noqa: SLF001 - the documented way to ask
        result["diff"] = {
            "before": "",
            "after": "".join(f"install {name}\n" for name in missing),
            "after_header": "packages",
        }
    if missing and not module.check_mode:
        if stale(module.params["lists_valid"]):
            apt_get(module, "update")
        apt_get(module, "install", "--no-install-recommends", *missing)
    module.exit_json(**result)


if __name__ == "__main__":
    main()

"""Ansible module: one nftables table from one file, loaded atomically. Tables of others are never touched."""

from __future__ import annotations

import hashlib
import ipaddress
import json
import os
import tempfile
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: ismgr_nft
short_description: Keep an nftables table loaded as its file says
description:
  - Writes the file and loads it in one transaction. What runs is compared with what the same file gave when it was
    loaded last, so a rule that somebody added or deleted by hand is found and undone.
  - Refuses rules that would shut out every address that holds an SSH connection now.
  - In check mode it reports exactly what it would change.
options:
  path: {description: The file that the system loads at boot., type: path, required: true}
  content:
    description: "What the file holds. It must replace its table: declare it, delete it, define it."
    type: str
    required: true
  family: {description: The family of the table., type: str, default: inet}
  table: {description: The table that the file defines., type: str, required: true}
  installed:
    description:
      - Packages that an earlier task of this run installed, or in check mode would install. With nftables among them
        the rules are loaded anew; without the package nobody can say what is loaded.
    type: list
    elements: str
    default: []
  ssh_port: {description: Where sshd listens., type: int, default: 22}
  ssh_from:
    description: Networks that the rules let in to sshd; empty means every address.
    type: list
    elements: str
    default: []
"""

RECORDS = Path("/var/lib/ismgr")


def record_path(params):
    return RECORDS / f"nft-{params['family']}-{params['table']}.json"


def listing(module):
    """The table as the kernel holds it, without counters; empty when there is none or no nft yet."""
    nft = module.get_bin_path("nft")
    if nft is None:
        return ""
    code, out, _ = module.run_command(
        [nft, "--stateless", "list", "table", module.params["family"], module.params["table"]]
    )
    return "" if code else out


def recorded(module, digest):
    """What the table looked like right after this content was loaded; None when that is not known."""
    try:
        record = json.loads(record_path(module.params).read_text())
    except (FileNotFoundError, ValueError):
        return None
    return record["listing"] if record.get("digest") == digest else None


def peers(port):
    """Addresses that hold a TCP connection to the local port now."""
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            lines = Path(table).read_text().splitlines()[1:]
        except FileNotFoundError:
            continue
        for local, remote, state in (line.split()[1:4] for line in lines):
            if state == "01" and int(local.rpartition(":")[2], 16) == port:
                raw = bytes.fromhex(remote.rpartition(":")[0])
                words = b"".join(raw[at : at + 4][::-1] for at in range(0, len(raw), 4))
                address = ipaddress.ip_address(words)
                found.add(getattr(address, "ipv4_mapped", None) or address)
    return found


def shut_out(params):
    """The SSH peers of this moment when none of them could connect again, else nothing."""
    networks = [ipaddress.ip_network(text, strict=False) for text in params["ssh_from"]]
    now = peers(params["ssh_port"])
    if not networks or any(peer in network for peer in now for network in networks if peer.version == network.version):
        return []
    return sorted(map(str, now))


def save(path, text, mode):
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix="~", dir=path.parent)
    with os.fdopen(handle, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    Path(name).chmod(mode)
    Path(name).replace(path)


def load(module, digest):
    """Check, load, then write: what is on disk for the next boot has been loaded once."""
    nft = module.get_bin_path("nft", required=True)
    code, _, err = module.run_command([nft, "--file", "-"], data=module.params["content"])
    if code:
        module.fail_json(msg=f"nft refused the rules, the old ones still hold: {err.strip()}")
    path = Path(module.params["path"])
    if not path.exists() or path.read_text() != module.params["content"] or path.stat().st_mode & 0o777 != 0o755:
        save(path, module.params["content"], 0o755)
    save(record_path(module.params), json.dumps({"digest": digest, "listing": listing(module)}), 0o600)


def main():
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "content": {"type": "str", "required": True},
            "family": {"type": "str", "default": "inet"},
            "table": {"type": "str", "required": True},
            "installed": {"type": "list", "elements": "str", "default": []},
            "ssh_port": {"type": "int", "default": 22},
            "ssh_from": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    content = module.params["content"]
    digest = hashlib.sha256(content.encode()).hexdigest()
    path = Path(module.params["path"])
    before = path.read_text() if path.exists() else ""
    live, wanted = listing(module), recorded(module, digest)
    changed = "nftables" in module.params["installed"] or before != content or live != wanted
    changed = changed or path.stat().st_mode & 0o777 != 0o755
    if changed and (outside := shut_out(module.params)):
        module.fail_json(
            msg=f"these rules let SSH in only from {', '.join(module.params['ssh_from'])} and would shut out "
            f"{', '.join(outside)}, which is where we come from; nothing was changed"
        )
    result = {"changed": changed}
    if module._diff and changed:  # noqa: SLF001 - the documented way to ask
        result["diff"] = [{"before": before, "after": content, "before_header": str(path), "after_header": str(path)}]
        if before == content:
            header = f"table {module.params['family']} {module.params['table']}"
            result["diff"] = [
                {
                    "before": live,
                    "after": wanted or "as the file says\n",
                    "before_header": header,
                    "after_header": header,
                }
            ]
    if changed and not module.check_mode:
        load(module, digest)
    module.exit_json(**result)


if __name__ == "__main__":
    main()

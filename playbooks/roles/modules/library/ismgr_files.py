"""Ansible module: a set of files, directories and links in one call. It changes nothing but the paths it is given."""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import shlex
import stat
import tempfile
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: ismgr_files
short_description: Keep a set of files as they should be
description:
  - Writes, links, creates and removes paths in one module call, which costs a host one Python start instead of one
    per file.
  - Every new file is written beside its place and validated before the first one moves there, so a bad file changes
    nothing.
  - In check mode it reports exactly what it would change.
options:
  files:
    description: What should be there.
    type: list
    elements: dict
    required: true
    suboptions:
      dest: {description: The path., type: path, required: true}
      content: {description: What the file holds (state file)., type: str}
      link: {description: Where the link points (state link)., type: str}
      state: {description: The kind of thing., type: str, choices: [file, directory, link, absent], default: file}
      owner: {description: The owning user., type: str, default: root}
      group: {description: The owning group., type: str, default: root}
      mode: {description: Octal permissions; 0644 for files and 0755 for directories when left out., type: str}
      keep: {description: Write the content only when the file is missing., type: bool, default: false}
      validate: {description: A command that must succeed on the new file, named by %s in it., type: str}
  purge:
    description: Directories that may hold nothing but what files names.
    type: list
    elements: path
    default: []
"""

RETURN = r"""
changed_paths:
  description: The paths that changed, or in check mode would change, in the order of files.
  type: list
  returned: always
"""

FILE = {
    "dest": {"type": "path", "required": True},
    "content": {"type": "str"},
    "link": {"type": "str"},
    "state": {"type": "str", "choices": ["file", "directory", "link", "absent"], "default": "file"},
    "owner": {"type": "str", "default": "root"},
    "group": {"type": "str", "default": "root"},
    "mode": {"type": "str"},
    "keep": {"type": "bool", "default": False},
    "validate": {"type": "str"},
}


class Refused(Exception):
    """The wish cannot be met; the text says why."""


def ids(entry):
    """The numeric owner and group, or None while the user or group does not exist yet."""
    try:
        return pwd.getpwnam(entry["owner"]).pw_uid, grp.getgrnam(entry["group"]).gr_gid
    except KeyError:
        return None


def mode_of(entry):
    fallback = "0755" if entry["state"] == "directory" else "0644"
    try:
        return int(entry["mode"] or fallback, 8)
    except ValueError as error:
        raise Refused(f"{entry['dest']}: mode {entry['mode']!r} is not octal") from error


def look(path):
    """What lies at the path now: kind, content, link, owner, mode; kind '' when nothing does."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return {"kind": ""}
    seen = {"ids": (found.st_uid, found.st_gid), "mode": stat.S_IMODE(found.st_mode)}
    if stat.S_ISLNK(found.st_mode):
        return {**seen, "kind": "link", "link": str(path.readlink())}
    if stat.S_ISDIR(found.st_mode):
        return {**seen, "kind": "directory"}
    return {**seen, "kind": "file", "content": path.read_bytes()}


def differs(entry, seen):
    """Whether what was seen is not what the entry asks for."""
    if entry["state"] == "absent":
        return seen["kind"] != ""
    if seen["kind"] != entry["state"]:
        return True
    if entry["state"] == "link":
        return seen["link"] != entry["link"]
    if entry["state"] == "file" and not entry["keep"] and seen["content"] != entry["content"].encode():
        return True
    return seen["mode"] != mode_of(entry) or seen["ids"] != ids(entry)


def as_text(seen):
    if seen["kind"] == "file":
        return seen["content"].decode(errors="replace") or "(an empty file)\n"
    if seen["kind"] == "link":
        return f"link to {seen['link']}\n"
    return f"{seen['kind']}\n" if seen["kind"] else ""


def diff(entry, seen):
    """Before and after as Ansible's --diff prints them; a line about owner and mode only where these changed."""
    path = entry["dest"]
    before = as_text(seen)
    if entry["state"] == "absent":
        after = ""
    elif entry["state"] == "file":
        after = before if entry["keep"] and seen["kind"] == "file" else entry["content"]
    else:
        after = f"link to {entry['link']}\n" if entry["state"] == "link" else "directory\n"
    result = [{"before": before, "after": after, "before_header": path, "after_header": path}]
    if entry["state"] in {"file", "directory"} and seen["kind"] == entry["state"]:
        was, wanted = (seen["ids"], seen["mode"]), (ids(entry), mode_of(entry))
        if was != wanted:
            result.append(
                {
                    "before": f"owner {was[0]} mode {was[1]:04o}\n",
                    "after": f"owner {wanted[0] or (entry['owner'], entry['group'])} mode {wanted[1]:04o}\n",
                    "before_header": f"{path} (permissions)",
                    "after_header": f"{path} (permissions)",
                }
            )
    return result


def remove(path):
    if path.is_dir() and not path.is_symlink():
        for inner in path.iterdir():
            remove(inner)
        path.rmdir()
    else:
        path.unlink(missing_ok=True)


def validate(module, entry, name):
    """Raise unless the entry's command accepts the new file."""
    command = [word.replace("%s", name) for word in shlex.split(entry["validate"])]
    code, out, err = module.run_command(command)
    if code:
        raise Refused(f"{entry['dest']}: the new content is not valid, nothing was changed: {(err or out).strip()}")


def stage(module, entry):
    """Write the new file beside its place and validate it there. Answers where it waits."""
    dest = Path(entry["dest"])
    if not dest.parent.is_dir():
        raise Refused(f"{dest}: its directory does not exist")
    handle, name = tempfile.mkstemp(prefix=f".{dest.name}.", suffix="~", dir=dest.parent)
    waiting = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(entry["content"].encode())
            file.flush()
            os.fsync(file.fileno())
        os.chown(waiting, *ids(entry))
        waiting.chmod(mode_of(entry))
        if entry["validate"]:
            validate(module, entry, name)
    except BaseException:
        waiting.unlink(missing_ok=True)
        raise
    return waiting


def place(entry, waiting):
    """Make the path what the entry asks for."""
    dest = Path(entry["dest"])
    seen = look(dest)
    if seen["kind"] not in {"", entry["state"]}:
        remove(dest)
    if entry["state"] == "link":
        fresh = dest.with_name(f".{dest.name}.new~")
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(entry["link"])
        fresh.replace(dest)
        return
    if entry["state"] == "directory":
        dest.mkdir(parents=True, exist_ok=True)
    elif waiting is not None:
        waiting.replace(dest)
    if entry["state"] != "absent":
        os.chown(dest, *ids(entry))
        dest.chmod(mode_of(entry))


def apply(module, wanted):
    """All files are staged and valid before the first path changes."""
    for entry in wanted:
        if entry["state"] in {"file", "directory"} and ids(entry) is None:
            raise Refused(f"{entry['dest']}: no user {entry['owner']!r} or no group {entry['group']!r}")
    made = [entry for entry in wanted if entry["state"] == "directory"]
    for entry in made:
        place(entry, None)
    staged = {}
    try:
        for entry in wanted:
            if entry["state"] == "file" and not (entry["keep"] and Path(entry["dest"]).is_file()):
                staged[entry["dest"]] = stage(module, entry)
        for entry in wanted:
            if entry not in made:
                place(entry, staged.pop(entry["dest"], None))
    finally:
        for waiting in staged.values():
            waiting.unlink(missing_ok=True)


def strangers(directories, files):
    """Absent-entries for what lies in exclusive directories and was not asked for."""
    named = {entry["dest"] for entry in files}
    for directory in directories:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            for path in sorted(Path(directory).iterdir()):
                if str(path) not in named:
                    yield {"dest": str(path), "state": "absent", "keep": False, "mode": None}


def main():
    module = AnsibleModule(
        argument_spec={
            "files": {"type": "list", "elements": "dict", "required": True, "options": FILE},
            "purge": {"type": "list", "elements": "path", "default": []},
        },
        supports_check_mode=True,
    )
    files = module.params["files"]
    for entry in files:
        missing = {"file": "content", "link": "link"}.get(entry["state"])
        if missing and entry[missing] is None:
            module.fail_json(msg=f"{entry['dest']}: state {entry['state']} needs {missing}")
    try:
        observed = [(entry, look(Path(entry["dest"]))) for entry in (*files, *strangers(module.params["purge"], files))]
        wrong = [(entry, seen) for entry, seen in observed if differs(entry, seen)]
        result = {"changed": bool(wrong), "changed_paths": [entry["dest"] for entry, _ in wrong]}
        if module._diff:  # noqa: SLF001 - the documented way to ask
            result["diff"] = [part for entry, seen in wrong for part in diff(entry, seen)]
        if not module.check_mode:
            apply(module, [entry for entry, _ in wrong])
    except (Refused, OSError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(**result)


if __name__ == "__main__":
    main()

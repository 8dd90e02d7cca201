"""Ansible module: one PostgreSQL cluster of Debian's, as primary or streaming standby. It never promotes, and never
deletes data that somebody wrote."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import json
import secrets
import shutil
import socket
import time
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: ismgr_postgresql
short_description: A PostgreSQL cluster of Debian's as primary or streaming standby
description:
  - C(state=created) makes the cluster where Debian's package did not, and refuses before anything else changes when the
    cluster cannot become what I(becomes) says.
  - C(state=primary) starts it, makes it read its newest configuration (reload, or restart where the server says that
    it needs one), and keeps roles, databases and replication slots. A stopped cluster with data is started only after
    the other members were asked and none of them is a primary.
  - C(state=standby) clones the primary into a cluster that nobody has written to, starts it, and makes it read its
    newest configuration.
  - It refuses, with a sentence, to promote a standby, to start a second primary, and to replace data that somebody
    wrote.
  - In check mode it reports exactly what it would change.
options:
  version: {description: The major version., type: str, required: true}
  cluster: {description: Debian's name of the cluster., type: str, default: main}
  state: {description: What it should be., type: str, choices: [created, primary, standby], required: true}
  becomes: {description: What a created cluster will be., type: str, choices: [primary, standby]}
  changed_paths: {description: Files that an earlier task of this run changed., type: list, elements: path, default: []}
  members: {description: Addresses of the other members., type: list, elements: str, default: []}
  start_alone: {description: Start a stopped primary although a member does not answer., type: bool, default: false}
  replication_user: {description: Who streams., type: str, required: true}
  passfile: {description: The libpq password file of the replication user., type: path, required: true}
  primary: {description: The primary's address (state standby)., type: str}
  slot: {description: The standby's slot on the primary (state standby)., type: str}
  port: {description: Where every member listens., type: int, default: 5432}
  deadline: {description: Seconds to wait for the primary and for streaming., type: int, default: 60}
  roles: {description: Login roles with password and whether they stream., type: list, elements: dict, default: []}
  databases: {description: Databases with their owner., type: list, elements: dict, default: []}
  slots: {description: Physical replication slots., type: list, elements: str, default: []}
"""

RETURN = r"""
actions:
  description: What was done, or in check mode would be, such as "create slot db1_dc2".
  type: list
  returned: always
"""

ARGUMENTS = {
    "version": {"type": "str", "required": True},
    "cluster": {"type": "str", "default": "main"},
    "state": {"type": "str", "choices": ["created", "primary", "standby"], "required": True},
    "becomes": {"type": "str", "choices": ["primary", "standby"]},
    "changed_paths": {"type": "list", "elements": "path", "default": []},
    "members": {"type": "list", "elements": "str", "default": []},
    "start_alone": {"type": "bool", "default": False},
    "replication_user": {"type": "str", "required": True},
    "passfile": {"type": "path", "required": True},
    "primary": {"type": "str"},
    "slot": {"type": "str"},
    "port": {"type": "int", "default": 5432},
    "deadline": {"type": "int", "default": 60},
    "roles": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "name": {"type": "str", "required": True},
            "password": {"type": "str", "required": True, "no_log": True},
            "replication": {"type": "bool", "default": False},
        },
    },
    "databases": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {"name": {"type": "str", "required": True}, "owner": {"type": "str", "required": True}},
    },
    "slots": {"type": "list", "elements": "str", "default": []},
}

STATE = """SELECT json_build_object(
  'in_recovery', pg_is_in_recovery(),
  'loaded', extract(epoch FROM pg_conf_load_time()),
  'pending_restart', (SELECT coalesce(json_agg(name), '[]') FROM pg_settings WHERE pending_restart),
  'mistakes', (SELECT coalesce(json_agg(line), '[]') FROM (
     SELECT format('%s:%s: %s', sourcefile, sourceline, error) AS line FROM pg_file_settings WHERE error IS NOT NULL
     AND error <> 'setting could not be applied'
     UNION ALL
     SELECT format('pg_hba.conf:%s: %s', line_number, error) FROM pg_hba_file_rules WHERE error IS NOT NULL) AS found),
  'roles', (SELECT coalesce(json_object_agg(rolname, json_build_object('secret', rolpassword,
     'login', rolcanlogin, 'replication', rolreplication, 'super', rolsuper)), '{}') FROM pg_authid),
  'databases', (SELECT json_object_agg(datname, pg_get_userbyid(datdba)) FROM pg_database),
  'slots', (SELECT coalesce(json_agg(slot_name), '[]') FROM pg_replication_slots WHERE slot_type = 'physical'),
  'streaming', EXISTS (SELECT FROM pg_stat_wal_receiver WHERE status = 'streaming'))"""

INITIAL_DATABASES = {"1", "4", "5", "pgsql_tmp"}  # template1, template0 and postgres: what initdb makes
NOT_THE_SERVERS = {"start.conf", "pg_ctl.conf"}  # Debian's scripts read them, the server does not
FIRST_OWN_FILE = 16384  # files of relations that somebody made have this number or a higher one


class Refused(Exception):
    """The wish cannot be met safely; the text says why and what to do."""


class Cluster:
    """The cluster on this machine: looking, and the few things that change it."""

    def __init__(self, module):
        self.module = module
        self.version, self.name = module.params["version"], module.params["cluster"]
        self.data = Path("/var/lib/postgresql") / self.version / self.name
        self.settings = Path("/etc/postgresql") / self.version / self.name
        self.unit = f"postgresql@{self.version}-{self.name}.service"

    def command(self, *words, user=None, stdin=None, environment=None, check=True):
        prefix = ["runuser", "-u", user, "--"] if user else []
        code, out, err = self.module.run_command([*prefix, *words], data=stdin, environ_update=environment, cwd="/")
        if code and check:
            raise Refused(f"{words[0]} failed: {err.strip() or out.strip()}")
        return code, out, err

    def sql(self, text, database="postgres"):
        words = ("psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-p", str(self.port()), "-d", database)
        return self.command(*words, user="postgres", stdin=text)[1].strip()

    def port(self):
        """Where it listens now, which a changed file must not hide."""
        with contextlib.suppress(OSError, IndexError, ValueError):
            return int((self.data / "postmaster.pid").read_text().splitlines()[3])
        return self.module.params["port"]

    def exists(self):
        return (self.settings / "postgresql.conf").is_file()

    def runs(self):
        return self.command("systemctl", "is-active", "--quiet", self.unit, check=False)[0] == 0

    def pristine(self):
        """Nobody has made a database or a table in it: it can be replaced. True for no data at all."""
        base = self.data / "base"
        databases = {path.name for path in base.iterdir()} if base.is_dir() else set()
        files = (path.name for name in databases for path in (base / name).iterdir())
        return databases <= INITIAL_DATABASES and all(int(name) < FIRST_OWN_FILE for name in files if name.isdigit())

    def follows(self):
        return (self.data / "standby.signal").is_file()

    def observe(self):
        return json.loads(self.sql(STATE))

    def behind(self, seen):
        """Whether the server has not read, or could not yet use, a file of its configuration. A file that this run
        changed (in check mode: would change) is one."""
        changed = [Path(path) for path in self.module.params["changed_paths"]]
        if seen["pending_restart"] or any(path.name not in NOT_THE_SERVERS for path in changed):
            return True
        files = [path for path in self.settings.rglob("*.conf") if path.name not in NOT_THE_SERVERS]
        return any(path.stat().st_mtime > seen["loaded"] for path in files)

    def start(self):
        code, _, _ = self.command("systemctl", "start", self.unit, check=False)
        if code:
            log = Path(f"/var/log/postgresql/postgresql-{self.version}-{self.name}.log")
            lines = log.read_text(errors="replace").splitlines()[-8:] if log.exists() else []
            raise Refused(f"{self.unit} does not start: " + " | ".join(lines))

    def reload(self):
        """Make it read its files, then restart it if it says that it must."""
        loaded = self.observe()["loaded"]
        self.command("systemctl", "reload", self.unit)
        seen = self.until(lambda seen: seen["loaded"] > loaded, 10) or self.observe()
        if seen["mistakes"]:
            raise Refused("the server keeps its old settings: " + "; ".join(seen["mistakes"]))
        if seen["pending_restart"]:
            self.command("systemctl", "restart", self.unit)

    def until(self, condition, seconds):
        """The first observation that meets the condition, None when the time is over."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            seen = self.observe()
            if condition(seen):
                return seen
            time.sleep(0.1)
        return None


def verifier(password, salt=None, rounds=4096):
    """The SCRAM verifier that PostgreSQL stores for a password: the password itself never enters SQL or its log."""
    salt = salt or secrets.token_bytes(16)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, rounds)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    parts = (base64.b64encode(part).decode() for part in (salt, stored, server))
    return "SCRAM-SHA-256${}:{}${}:{}".format(rounds, *parts)


def matches(password, secret):
    """Whether a stored verifier belongs to the password."""
    with contextlib.suppress(AttributeError, ValueError):
        kind, head, _ = secret.split("$")
        rounds, salt = head.split(":")
        return kind == "SCRAM-SHA-256" and hmac.compare_digest(
            verifier(password, base64.b64decode(salt), int(rounds)), secret
        )
    return False


def quoted(name):
    return '"' + name.replace('"', '""') + '"'


def literal(text):
    return "'" + text.replace("'", "''") + "'"


def objects(params, seen):
    """Pairs of what must be done and its SQL, in order. ``seen`` is empty for a cluster that does not run yet."""
    found = seen or {"roles": {}, "databases": {}, "slots": []}
    for role in params["roles"]:
        has = found["roles"].get(role["name"])
        wanted = "LOGIN {} NOSUPERUSER".format("REPLICATION" if role["replication"] else "NOREPLICATION")
        right = has and (has["login"], has["replication"], has["super"]) == (True, role["replication"], False)
        if not right or not matches(role["password"], has["secret"]):
            verb = "ALTER" if has else "CREATE"
            secret = literal(verifier(role["password"]))
            yield (
                f"{verb.lower()} role {role['name']}",
                f"{verb} ROLE {quoted(role['name'])} {wanted} PASSWORD {secret};",
            )
    for database in params["databases"]:
        owner = found["databases"].get(database["name"])
        name, wanted = quoted(database["name"]), quoted(database["owner"])
        if owner is None:
            options = "ENCODING 'UTF8' LOCALE 'C.UTF-8' TEMPLATE template0"
            yield f"create database {database['name']}", f"CREATE DATABASE {name} OWNER {wanted} {options};"
        elif owner != database["owner"]:
            yield f"alter database {database['name']}", f"ALTER DATABASE {name} OWNER TO {wanted};"
    for slot in params["slots"]:
        if slot not in found["slots"]:
            yield f"create slot {slot}", f"SELECT pg_create_physical_replication_slot({literal(slot)}, true);"


def ask(cluster, address):
    """What another member is: 'primary', 'standby', 'down' (it answers and nobody listens) or 'unknown'."""
    params = cluster.module.params
    try:
        socket.create_connection((address, params["port"]), timeout=3).close()
    except ConnectionRefusedError:
        return "down"
    except OSError:
        return "unknown"
    target = f"host={address} port={params['port']} user={params['replication_user']} dbname=postgres connect_timeout=3"
    words = ("psql", "-XAtqw", "-d", target, "-c", "SELECT pg_is_in_recovery()")
    code, out, _ = cluster.command(*words, user="postgres", environment={"PGPASSFILE": params["passfile"]}, check=False)
    return {"f": "primary", "t": "standby"}.get(out.strip(), "unknown") if code == 0 else "unknown"


def may_start_as_primary(cluster):
    """Raise unless no other member can be the primary. An old primary that comes back must not become a second one."""
    for address in cluster.module.params["members"]:
        answer = ask(cluster, address)
        if answer == "primary":
            raise Refused(
                f"{address} is the primary now: this cluster was one and is stopped. Nothing was started. Name the "
                "new primary in postgresql_primary and rewind this one, or fail back first"
            )
        if answer == "unknown" and not cluster.module.params["start_alone"]:
            raise Refused(
                f"{address} does not say whether it is the primary now, so this stopped cluster was not started: two "
                "primaries would lose writes. Make it reachable, or, if it is certainly off, set "
                "postgresql_start_alone: true for this one run"
            )


def refuse_primary(cluster):
    """Raise when the cluster must not run as the primary."""
    if cluster.follows():
        raise Refused("this cluster is a standby: promoting it is a switchover, which this role never does")
    if not cluster.runs() and not cluster.pristine():
        may_start_as_primary(cluster)


def refuse_standby(cluster):
    """Raise when the cluster holds data of its own, which a clone would replace."""
    if not cluster.follows() and not cluster.pristine():
        raise Refused(
            f"{cluster.data} holds data and is no standby: it is, or was, a primary. Nothing was deleted. If it is the "
            "primary now, name it in postgresql_primary; else rewind it (pg_rewind), or move the folder away by hand"
        )


def primary(cluster):
    """Actions for state primary, as pairs of a sentence and what does it."""
    refuse_primary(cluster)
    if cluster.runs():
        seen = cluster.observe()
        if seen["in_recovery"]:
            raise Refused("this cluster is still recovering, so it is no primary yet")
        if cluster.behind(seen):
            yield "load the newest configuration", cluster.reload
    else:
        yield "start", cluster.start
        seen = {} if cluster.module.check_mode and cluster.pristine() else None
    if seen is None and not cluster.module.check_mode:
        seen = cluster.observe()
    for sentence, sql in objects(cluster.module.params, seen) if seen is not None else ():
        yield sentence, lambda sql=sql: cluster.sql(sql)


def standby(cluster):
    """Actions for state standby, as pairs of a sentence and what does it."""
    refuse_standby(cluster)
    if not cluster.follows():
        yield f"clone {cluster.module.params['primary']}", lambda: clone(cluster)
    elif not cluster.runs():
        yield "start", cluster.start
    elif cluster.behind(cluster.observe()):
        yield "load the newest configuration", cluster.reload


def clone(cluster):
    """Copy the primary beside the pristine data, then put it in its place and start it; wait until it streams."""
    params = cluster.module.params
    end = time.monotonic() + params["deadline"]
    while (answer := ask(cluster, params["primary"])) != "primary":
        if time.monotonic() > end:
            raise Refused(f"the primary at {params['primary']} does not answer as one ({answer}); nothing was changed")
        time.sleep(0.5)
    fresh = cluster.data.with_name(f"{cluster.name}.clone")
    shutil.rmtree(fresh, ignore_errors=True)
    target = f"host={params['primary']} port={params['port']} user={params['replication_user']} connect_timeout=5"
    words = ("pg_basebackup", "-w", "-D", str(fresh), "-d", target, "-X", "stream", "-S", params["slot"], "-c", "fast")
    try:
        cluster.command(*words, user="postgres", environment={"PGPASSFILE": params["passfile"]})
        (fresh / "standby.signal").touch(mode=0o600)
        shutil.chown(fresh / "standby.signal", "postgres", "postgres")
        cluster.command("systemctl", "stop", cluster.unit)
        shutil.rmtree(cluster.data, ignore_errors=True)
        fresh.rename(cluster.data)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    cluster.start()
    if cluster.until(lambda seen: seen["streaming"], params["deadline"]) is None:
        raise Refused(
            f"cloned and started, and it does not stream from {params['primary']} after {params['deadline']} seconds"
        )


def created(cluster):
    """Actions for state created."""
    if not cluster.exists():
        make = ("pg_createcluster", "--start-conf", "manual", "--locale", "C.UTF-8", "--encoding", "UTF8")
        yield "create the cluster", lambda: cluster.command(*make, cluster.version, cluster.name)
        return
    match cluster.module.params["becomes"]:
        case "primary":
            refuse_primary(cluster)
        case "standby":
            refuse_standby(cluster)


def main():
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    cluster = Cluster(module)
    done = []
    try:
        if module.params["state"] != "created" and not cluster.exists() and module.check_mode:
            done.append("create the cluster first")  # an earlier task of the same run will have made it
        else:
            wish = {"created": created, "primary": primary, "standby": standby}[module.params["state"]]
            for sentence, act in wish(cluster):
                done.append(sentence)
                if not module.check_mode:
                    act()
    except Refused as refusal:
        module.fail_json(msg=str(refusal), actions=done)
    result = {"changed": bool(done), "actions": done}
    if module._diff and done:  # noqa: SLF001 - the documented way to ask
        result["diff"] = {"before": "", "after": "".join(f"{line}\n" for line in done), "after_header": cluster.unit}
    module.exit_json(**result)


if __name__ == "__main__":
    main()

"""``ssh-keygen -Y sign`` and ``-Y verify``: keys in files, agents and hardware, or secrets that only an agent of our
own sees. Trust comes from the signers that a caller names, never from a file of the user or a repository."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum, auto
from pathlib import Path

from ismgr_automation.core.errors import EngineFailed, InputError
from ismgr_automation.core.secret import Secret, SecretRef
from ismgr_automation.engines import process
from ismgr_automation.engines.ssh.agent import agent
from ismgr_automation.ports.signing import AllowedSigner, Signature, bare_key, embedded_key, fingerprint

ENGINE = "ssh-keygen"
_SIGNING = timedelta(minutes=2)
"""A person may have to find the hardware key and touch it."""
_CHECKING = timedelta(seconds=30)
_PLAIN_KEY = re.compile(r"[a-z0-9@.-]+ [A-Za-z0-9+/]+=*")
_PRINCIPAL = re.compile(r"[A-Za-z0-9@:._+/=-]+")
_NAMESPACE = re.compile(r"[A-Za-z0-9@._-]+")
_MOMENT = re.compile(r"(\d{8}(\d{4}(\d{2})?)?Z?)?")


class Worth(Enum):
    """What a signature is worth."""

    GOOD = auto()
    UNKNOWN_KEY = auto()
    """It is over these bytes, by a key that is nobody's here (or not in this namespace)."""
    BAD = auto()
    EXPIRED = auto()
    REVOKED = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A signature looked at: the principal when it is good, and the fingerprint of the key inside it."""

    worth: Worth
    principal: str = ""
    key: str = ""


class SshVerifier:
    """``ports.signing.SignatureVerifier``. ``revoked`` is a file of revoked public keys, or a KRL."""

    def __init__(self, revoked: Path | None = None) -> None:
        self._revoked = revoked

    def verify(
        self, data: bytes, signature: Signature, namespace: str, signers: tuple[AllowedSigner, ...]
    ) -> str | None:
        """The principal whose signature it is; None when it does not count, for whatever reason."""
        judged = self.judge(data, signature.armored, namespace, signers)
        return judged.principal if judged.worth is Worth.GOOD else None

    def judge(self, data: bytes, armored: str, namespace: str, signers: Sequence[AllowedSigner]) -> Judged:
        """What an armored signature is worth, and by which key it is. Raises ``EngineError`` without OpenSSH, and
        ``InputError`` for a signer or namespace that could not be written into an allowed-signers file safely."""
        key = embedded_key(armored)
        print_ = fingerprint(key)
        if not print_:
            return Judged(worth=Worth.BAD)
        with _files(armored, [one for one in signers if bare_key(one.key) == key]) as (signature, allowed, names):
            found = Worth.UNKNOWN_KEY
            for name in names:
                asked = ["verify", "-f", str(allowed), "-I", name]
                code, said = _check(data, namespace, signature, asked)
                if code == 0 and not self._is_revoked(data, namespace, signature, asked):
                    return Judged(worth=Worth.GOOD, principal=name, key=print_)
                found = Worth.REVOKED if code == 0 else Worth.EXPIRED if _out_of_time(said) else found
            sound = found is Worth.REVOKED or self._sound(data, namespace, signature)
        return Judged(worth=found if sound else Worth.BAD, key=print_)

    @staticmethod
    def _sound(data: bytes, namespace: str, signature: Path) -> bool:
        """Whether the key inside the signature made it, over this data and in this namespace; trusts nobody yet."""
        return _check(data, namespace, signature, ["check-novalidate"])[0] == 0

    def _is_revoked(self, data: bytes, namespace: str, signature: Path, asked: Sequence[str]) -> bool:
        if self._revoked is None:
            return False
        return _check(data, namespace, signature, [*asked, "-r", str(self._revoked)])[0] != 0


@dataclass(frozen=True, slots=True)
class FileSigner:
    """Signs with a key file: a private key without a passphrase, or a public key whose private half an agent or a
    hardware key has. ``tell`` gets what OpenSSH says while it waits, such as a request to touch the key."""

    path: Path
    tell: Callable[[str], None] = lambda _line: None

    def sign(self, data: bytes, namespace: str) -> Signature:
        """An armored signature. Raises ``InputError`` when the key is not there or wants a passphrase."""
        if not self.path.is_file():
            raise InputError(f"There is no key file {self.path}.", next_step="Name another file with --key.")
        return _sign(
            ["-f", str(self.path)], data, namespace, tell=self.tell, subject=str(self.path), environment=os.environ
        )


@dataclass(frozen=True, slots=True)
class AgentSigner:
    """Signs with the key in an ssh-agent whose public half is given; ``socket`` None is the user's own agent."""

    key: str
    socket: Path | None = None
    tell: Callable[[str], None] = lambda _line: None

    def refuse_if_absent(self) -> None:
        """Ask the agent for its list, and sign nothing. Raises ``InputError`` when it does not have the key."""
        listed = process.run(
            ["ssh-add", "-L"], engine="ssh-add", subject="agent", deadline=_CHECKING, env=self._environment()
        )
        if bare_key(self.key) not in map(bare_key, listed.stdout.splitlines()):
            raise InputError(
                f"No agent has the private half of {fingerprint(self.key) or 'this key'}.",
                next_step="`ssh-add -L` lists what your agent has; `ssh-add FILE` gives it a key.",
            )

    def sign(self, data: bytes, namespace: str) -> Signature:
        """An armored signature. Raises ``InputError`` when no agent has the key."""
        environment = self._environment()
        with tempfile.TemporaryDirectory(prefix="ismgr-key-") as folder:
            public = Path(folder) / "key.pub"
            public.write_text(bare_key(self.key) + "\n", encoding="ascii", errors="replace")
            return _sign(
                ["-U", "-f", str(public)],
                data,
                namespace,
                tell=self.tell,
                subject=fingerprint(self.key) or "this key",
                environment=environment,
            )

    def _environment(self) -> dict[str, str]:
        environment = dict(os.environ)
        if self.socket is not None:
            environment["SSH_AUTH_SOCK"] = str(self.socket)
        if not environment.get("SSH_AUTH_SOCK"):
            raise InputError("There is no ssh-agent here.", next_step="Start one and `ssh-add` the key, or use --key.")
        return environment


@dataclass(frozen=True, slots=True)
class SecretSigner:
    """Signs with a private key that is a secret. It is given to an agent of our own, and is never on disk."""

    secret: Secret
    ref: SecretRef

    def sign(self, data: bytes, namespace: str) -> Signature:
        """An armored signature. Raises ``InputError`` when the secret is no private key or has a passphrase."""
        with (
            tempfile.TemporaryDirectory(prefix="ismgr-agent-") as folder,
            agent(self.secret, self.ref, Path(folder) / "agent") as socket,
        ):
            listed = process.run(
                ["ssh-add", "-L"],
                engine="ssh-add",
                subject=str(self.ref),
                deadline=_CHECKING,
                env={**os.environ, "SSH_AUTH_SOCK": str(socket)},
            )
            return AgentSigner(listed.stdout.strip(), socket).sign(data, namespace)


def allowed_line(signer: AllowedSigner) -> str:
    """A line of an allowed-signers file. Raises ``InputError`` for what could be read as something else there."""
    key = bare_key(signer.key)
    parts = [signer.principal, *signer.namespaces]
    names = bool(signer.namespaces) and all(map(_NAMESPACE.fullmatch, signer.namespaces))
    names = names and bool(_PRINCIPAL.fullmatch(signer.principal))
    times_fine = all(map(_MOMENT.fullmatch, (signer.valid_after, signer.valid_before)))
    if not names or not times_fine or not _PLAIN_KEY.fullmatch(key) or not fingerprint(key):
        raise InputError(
            f"A signer cannot be written down safely: {', '.join(parts)!r}.",
            next_step="Mend its name or key in its Team document, or in the pinned allowed_signers.",
        )
    times = [f'valid-after="{signer.valid_after}"'] if signer.valid_after else []
    times += [f'valid-before="{signer.valid_before}"'] if signer.valid_before else []
    options = ",".join([f'namespaces="{",".join(signer.namespaces)}"', *times])
    return f"{signer.principal} {options} {key}"


@contextmanager
def _files(armored: str, signers: Sequence[AllowedSigner]) -> Iterator[tuple[Path, Path, tuple[str, ...]]]:
    lines = [allowed_line(one) for one in signers]
    with tempfile.TemporaryDirectory(prefix="ismgr-signature-") as folder:
        signature, allowed = Path(folder) / "signature", Path(folder) / "allowed_signers"
        signature.write_text(armored.strip() + "\n", encoding="ascii", errors="replace")
        allowed.write_text("".join(f"{line}\n" for line in lines), encoding="ascii")
        yield signature, allowed, tuple(dict.fromkeys(one.principal for one in signers))


def _check(data: bytes, namespace: str, signature: Path, asked: Sequence[str]) -> tuple[int, str]:
    verb, *rest = asked
    done = process.run(
        ["ssh-keygen", "-Y", verb, "-n", namespace, "-s", str(signature), *rest],
        engine=ENGINE,
        subject="a signature",
        deadline=_CHECKING,
        stdin=data,
        env=_plain_environment(),
    )
    return done.code, done.stdout + done.stderr


def _out_of_time(said: str) -> bool:
    return "key has expired" in said or "key is not yet valid" in said


def _sign(
    key: Sequence[str],
    data: bytes,
    namespace: str,
    *,
    tell: Callable[[str], None],
    subject: str,
    environment: Mapping[str, str],
) -> Signature:
    done = process.run(
        ["ssh-keygen", "-Y", "sign", "-n", namespace, *key],
        engine=ENGINE,
        subject=subject,
        deadline=_SIGNING,
        stdin=data,
        env={**environment, "LC_ALL": "C"},
        on_stderr=lambda line: tell(line) if "Confirm user presence" in line or "PIN" in line else None,
    )
    if done.code != 0:
        raise _no_signature(done.stderr, subject)
    found = embedded_key(done.stdout)
    if not found:
        raise EngineFailed(
            f"{subject}: ssh-keygen gave no signature that can be read.",
            engine=ENGINE,
            subject=subject,
            untouched="Nothing was touched.",
            next_step="Sign by hand with `ssh-keygen -Y sign` and see what it says.",
            detail=done.stderr,
        )
    return Signature(armored=done.stdout.strip() + "\n", key=found)


def _no_signature(said: str, subject: str) -> InputError | EngineFailed:
    words = said.strip().splitlines()[-1:] or ["it said nothing"]
    if "passphrase" in said:
        return InputError(
            f"The key {subject} has a passphrase, and there is nobody to ask for it here.",
            next_step="Give the key to your agent with `ssh-add`, and name its public half with --agent-key.",
        )
    if "No private key found" in said or "agent" in said or "Couldn't load" in said:
        return InputError(
            f"No agent and no file has the private half of {subject}: {words[0]}",
            next_step="`ssh-add -L` lists what your agent has; `ssh-add FILE` gives it a key.",
        )
    return EngineFailed(
        f"{subject}: nothing was signed: {words[0]}",
        engine=ENGINE,
        subject=subject,
        untouched="Nothing was touched.",
        next_step="Sign by hand with `ssh-keygen -Y sign` and see what it says.",
        detail=said,
    )


def _plain_environment() -> dict[str, str]:
    return {"PATH": os.environ.get("PATH", os.defpath), "HOME": os.environ.get("HOME", "/"), "LC_ALL": "C", "TZ": "UTC"}

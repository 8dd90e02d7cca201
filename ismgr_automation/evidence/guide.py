"""The page in a bundle that says how to check it with tools that everybody has. Each block of it is run by a test."""

from __future__ import annotations

import shlex
from collections.abc import Collection

from ismgr_automation.approval.people import principal
from ismgr_automation.ports.approvals import NAMESPACE as APPROVAL
from ismgr_automation.ports.evidence import NAMESPACE
from ismgr_automation.recovery.particulars import SIGN_OFF_NAMESPACE

HEAD = """\
# Evidence of run {run}

Estate `{estate}`, environment `{environment}`. Nothing of `ismgr` is needed to check it: `sha256sum` and `ssh-keygen`
(OpenSSH 8.2 or newer) are enough. Run the commands in this folder.

## What is here
{listed}

## 1. The files are as they were exported
```sh
sha256sum --check --quiet SHA256SUMS
```

## 2. No record was altered, taken out, added or moved
Each line of `records.jsonl` holds the SHA-256 of the line before it, in `previous`. This goes through all of them and
prints the digest of the last:
```sh
previous=
while IFS= read -r line; do
  claimed=$(printf '%s' "$line" | sed -E 's/.*"previous":"([^"]*)","run":"[^"]*","sequence":[0-9]+[}}]$/\\1/')
  if [ -n "$previous" ] && [ "$claimed" != "$previous" ]; then echo "broken at: $line"; exit 1; fi
  previous="sha256:$(printf '%s' "$line" | sha256sum | cut -d' ' -f1)"
done < records.jsonl
echo "$previous"
```
"""

SIGNED = """
## 3. The runner signed the last record, and with it all before
```sh
tail -n 1 records.jsonl | tr -d '\\n' |
  ssh-keygen -Y verify -f allowed_signers -I {who} -n {namespace} -s closing.sig
```
`allowed_signers` lists the keys with role runner in the estate's Team documents. Compare it with what you know.
"""

NOT_SIGNED = """
## 3. There is no closing signature
The run has not ended, or its environment has no runner key. Step 2 shows that the records hold together; who wrote
them is not proven.
"""

PLAN = """
## 4. This is the plan
Its digest, which was approved and which the first record names in `digest`:
```sh
sha256sum intent.json
```
`intent.json` is the part `intent` of `plan.json` in canonical form (RFC 8785).
"""

APPROVED = """
## 5. These people approved it
```sh
{commands}
```
`approvers` lists the keys as Team documents had them then. Each file in `approvals` names the digest of the plan, until
when it holds, and a number that is used once.
"""

ANCHOR = """
## 6. Nothing was cut off at the end
Whoever can write the log could cut off its end. The digest that step 2 printed was also remembered outside of it; it
must be the one in `anchors.json`, and in the repository of the estate:
```
git log --format=%s refs/ismgr/evidence
git show refs/ismgr/evidence:{estate}/{environment}.json
```
"""

DRILL = """
## 7. This is what the drill measured
The digest of its result, which one of the records names after the word `result`:
```sh
grep -c "result sha256:$(sha256sum drill.json | cut -d' ' -f1)" records.jsonl
```
`drill.json` is the result in canonical form (RFC 8785). `drill-notes.json`, `drill.html` and `drill.pdf` are made from
it and from what people wrote down afterwards, and are not on record themselves.
"""

NOTES = """
## 8. This is what people wrote down
Each file `notes/*.json` stands as it is in a record beside it:
```sh
for note in notes/*.json; do
  grep -qF -- "$(cat "$note")" "${{note%.json}}.jsonl" || {{ echo "not on record: $note"; exit 1; }}
done
```
The last of these records holds the digest of the one before, and the runner signed it:
```sh
for signature in notes/*.sig; do
  tail -n 1 "${{signature%.sig}}.jsonl" | tr -d '\\n' |
    ssh-keygen -Y verify -f allowed_signers -I {who} -n {namespace} -s "$signature" || exit 1
  before=$(tail -n 2 "${{signature%.sig}}.jsonl" | head -n 1 | tr -d '\\n' | sha256sum | cut -d' ' -f1)
  tail -n 1 "${{signature%.sig}}.jsonl" | grep -qF "sha256:$before" || exit 1
done
```
"""

SIGNED_OFF = """
## 9. These people signed the drill off
```sh
{commands}
```
`signatories` lists the keys as Team documents had them then. Each file in `sign-offs` names the digest of the result,
which must be that of `drill.json`:
```sh
for one in sign-offs/*.json; do
  grep -q "sha256:$(sha256sum drill.json | cut -d' ' -f1)" "$one" || {{ echo "of another result: $one"; exit 1; }}
done
```
"""

WORDS = {
    "SHA256SUMS": "digests of all other files",
    "allowed_signers": "keys with role runner",
    "anchors.json": "where the chain ended, as remembered outside of the log",
    "approvers": "keys of the people who approved",
    "closing.sig": "signature of the runner under the last record",
    "drill.html": "the report of the drill",
    "drill.json": "what the drill measured, whose digest a record names",
    "drill-notes.json": "what people wrote down about the drill afterwards",
    "drill.pdf": "the same report on paper",
    "intent.json": "what the plan's digest is over",
    "plan.json": "the plan that was applied",
    "records.jsonl": "the records, one a line",
    "signatories": "keys of the people who signed the drill off",
    "report.json": "the result, whose digest the last record names in `report`",
}

FOLDERS = {
    "notes": "what people wrote down about the drill, and the records of that",
    "sign-offs": "what was signed under the drill's result, and the signatures",
}


def guide(estate: str, environment: str, run: str, signed_by: str, files: Collection[str]) -> str:
    """The page for a bundle that has these files; ``signed_by`` is the principal of the runner, if one signed."""
    names = sorted({*files, "SHA256SUMS"})
    approvals = sorted(one for one in names if one.startswith("approvals/") and one.endswith(".sig"))
    listed = [f"- `{name}`: {WORDS[name]}" for name in names if name in WORDS]
    listed += ["- `approvals/`: what was signed, and the signatures"] if approvals else []
    folders = {one.partition("/")[0] for one in names}
    listed += [f"- `{folder}/`: {words}" for folder, words in FOLDERS.items() if folder in folders]
    told = HEAD.format(run=run, estate=estate, environment=environment, listed="\n".join(listed))
    if "closing.sig" in names:
        told += SIGNED.format(who=shlex.quote(principal(signed_by or "runner", "")), namespace=NAMESPACE)
    else:
        told += NOT_SIGNED
    if "intent.json" in names:
        told += PLAN
    if approvals:
        told += APPROVED.format(commands="\n".join(map(_approval, approvals)))
    if "drill.json" in names:
        told += DRILL
    if any(one.startswith("notes/") and one.endswith(".sig") for one in names):
        told += NOTES.format(who=shlex.quote(principal(signed_by or "runner", "")), namespace=NAMESPACE)
    signed_off = [one for one in names if one.startswith("sign-offs/") and one.endswith(".sig")]
    if signed_off and "drill.json" in names:
        told += SIGNED_OFF.format(commands="\n".join(map(_signed_off, signed_off)))
    if "anchors.json" in names:
        told += ANCHOR.format(estate=estate, environment=environment)
    return told


def _approval(name: str) -> str:
    return _verified(name, "approvers", APPROVAL)


def _signed_off(name: str) -> str:
    return _verified(name, "signatories", SIGN_OFF_NAMESPACE)


def _verified(name: str, signers: str, namespace: str) -> str:
    stem = name.removesuffix(".sig")
    who = f"$(ssh-keygen -Y find-principals -f {signers} -s {name})"
    return f'ssh-keygen -Y verify -f {signers} -I "{who}" -n {namespace} -s {name} < {stem}.json'

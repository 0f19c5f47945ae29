"""Runs commands in a network namespace that has loopback alone, and writes down every other address they reach for.

    unshare --map-root-user --net python without_network.py plan.json outcome.json

The plan holds the commands, and may ask for a chat server on loopback while they run; ``{chat}`` in a file named there is its address.
"""

import fcntl
import json
import re
import socket
import struct
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

_SET_FLAGS, _UP_AND_RUNNING = 0x8914, 0x41
_CALL = re.compile(r"(connect|sendto|sendmsg)\(.*?sa_family=(AF_\w+)(.*)")
_LOOPBACK = re.compile(r'inet_addr\("127\.|inet_pton\(AF_INET6, "::1"|inet_pton\(AF_INET6, "::ffff:127\.')


def foreign_calls(trace: str) -> list[str]:
    """Calls of a trace of strace that reach for an address of a network that is not loopback."""
    found = []
    for line in trace.splitlines():
        match = _CALL.search(line)
        if match and match[2] in ("AF_INET", "AF_INET6") and not _LOOPBACK.search(line):
            found.append(line.strip()[:300])
    return found


def _bring_loopback_up() -> None:
    with socket.socket() as any_socket:
        fcntl.ioctl(any_socket, _SET_FLAGS, struct.pack("16sh", b"lo", _UP_AND_RUNNING))


def _traced(command: list[str], folder: Path, number: int) -> dict[str, Any]:
    log = folder / f"{number}.strace"
    strace = ["strace", "-f", "--seccomp-bpf", "-qq", "-e", "trace=connect,sendto,sendmsg", "-o", str(log)]
    done = subprocess.run([*strace, *command], capture_output=True, text=True, check=False, timeout=900)
    trace = log.read_text(errors="replace") if log.exists() else None
    return {
        "command": command,
        "code": done.returncode,
        "out": done.stdout,
        "err": done.stderr,
        "traced": trace is not None,
        "foreign": foreign_calls(trace or ""),
    }


def main() -> None:
    plan = json.loads(Path(sys.argv[1]).read_text())
    outcome = Path(sys.argv[2])
    _bring_loopback_up()
    if plan.get("chat_key"):
        from rsdata.testing.chat_server import chat_server

        server = chat_server(outcome.with_suffix(".chat"), key=plan["chat_key"])
    else:
        server = nullcontext()
    with server as chat:
        for name in plan.get("recipes", []):
            path = Path(name)
            path.write_text(path.read_text().replace("{chat}", chat.url if chat else ""))
        found = [_traced(command, outcome.parent, number) for number, command in enumerate(plan["commands"])]
    outcome.write_text(json.dumps(found))


if __name__ == "__main__":
    main()

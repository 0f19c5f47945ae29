"""Prefect flows: the order of the steps, their retries and how many run at a time.

Importing this package settles how Prefect behaves before it is loaded: no telemetry, no account, a home of its
own, and a server that lives no longer than this process. Whoever has a Prefect server points PREFECT_API_URL at it.
"""

import atexit
import os
import shutil
import tempfile
import threading
from pathlib import Path


def _home() -> Path:
    """A folder for Prefect's database; it must exist, as Prefect does not make its parents and then never starts."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    home = cache / "rsdata" / "prefect"
    try:
        home.mkdir(parents=True, exist_ok=True)
    except OSError:  # a read-only home; receipts, not this database, remember what is done
        home = Path(tempfile.mkdtemp(prefix="rsdata-prefect-"))
        atexit.register(shutil.rmtree, home, ignore_errors=True)
    return home


_SETTINGS = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "180",
    "PREFECT_SERVER_LOGGING_LEVEL": "CRITICAL",
    "PREFECT_SERVER_DATABASE_TIMEOUT": "60",
    "PREFECT_LOGGING_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_TO_API_ENABLED": "false",
}
for _name, _value in _SETTINGS.items():
    os.environ.setdefault(_name, _value)
if "PREFECT_HOME" not in os.environ:
    os.environ["PREFECT_HOME"] = str(_home())


def _forget_services() -> None:
    """Free a forked child from ending Prefect's services, whose threads stayed in its parent.

    Before Prefect 3.9.1 they assert at its exit that they run there, and a child that did all its work exits with 1, for
    which torch's DataLoader gives up.
    """
    calls = getattr(threading, "_threading_atexits", [])
    calls[:] = [call for call in calls if not str(getattr(call.func, "__module__", "")).startswith("prefect.")]


os.register_at_fork(after_in_child=_forget_services)

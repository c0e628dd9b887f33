"""`make airflow`, `make prefect`, `make dagster`: the platform's real UI with our examples, against the sandbox.

    python examples/demo/ui.py airflow

Runs until Ctrl-C; then the platform and the sandbox stop.
"""

from __future__ import annotations

import signal
import subprocess
import sys

from launchers import GRACE
from meters import sandbox
from run import PLATFORMS, ROOT


def main() -> int:
    """Serve one platform's UI until Ctrl-C."""
    if sys.argv[1:] not in [[name] for name in PLATFORMS]:
        sys.exit(f"usage: ui.py {'|'.join(PLATFORMS)}")
    (platform,) = sys.argv[1:]
    folder = ROOT / "build" / "ui"
    folder.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    with sandbox(folder / f"{platform}-sandbox.log") as meter:
        command = [f"{ROOT}/.venvs/{platform}/bin/python", f"{ROOT}/examples/{platform}/launch.py", "ui"]
        # Own session: Ctrl-C reaches the launcher once, through us.
        launcher = subprocess.Popen(command, env=meter.environment, start_new_session=True)
        try:
            return launcher.wait()
        except KeyboardInterrupt:
            return 0
        finally:
            launcher.terminate()
            launcher.wait(GRACE)


if __name__ == "__main__":
    sys.exit(main())

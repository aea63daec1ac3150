"""`segcore train` in a process that is killed at a given moment, for tests."""

import signal
import subprocess
import sys

from tiny_runs import CONFIG, ENVIRONMENT, ROOT, options

# Python tells of every file that is opened or renamed before it is done; kill -9 cannot be caught
PROGRAM = """
import os
import signal
import sys

from segcore.cli.main import main

moments = [moment.split() for moment in os.environ["KILLED_AT"].split(",")]
seen = [0]

def watch(happened, arguments):
    event, ending, count = moments[0]
    if happened != event or not any(str(given).endswith(ending) for given in arguments):
        return
    seen[0] += 1
    if seen[0] != int(count):
        return
    if len(moments) == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    seen[0] = 0
    del moments[0]

sys.addaudithook(watch)
main()
"""


def killed_at(moment, folder, *more, flags=()):
    """A run whose first process kills itself.

    Args:
        moment: "event ending-of-a-file's-name count"; with several, by commas, one after another.
    """
    program = folder.parent / "killed.py"
    program.write_text(PROGRAM)
    command = [sys.executable, str(program), "train", "--config-file", CONFIG, *flags]
    paths = {"PYTHONPATH": str(ROOT), "KILLED_AT": moment}
    done = subprocess.run(
        [*command, *options(folder, *more)],
        cwd=ROOT, env=ENVIRONMENT | paths, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stdout + done.stderr

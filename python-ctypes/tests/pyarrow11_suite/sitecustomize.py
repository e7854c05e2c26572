"""Makes the tests that came with pyarrow 11 test this project, without a change in them.

Python imports this at its start, as its directory is on PYTHONPATH: in pytest, and in the programs that the tests start.
$PLASMA_TEST_OF is what is tested: `package` puts ours in the place of pyarrow.plasma; with `daemon` it is pyarrow's
client, and only the program that start_plasma_store runs is ours.
"""

import os
import subprocess
import sys
from typing import Any, List

import pyarrow


class _Subprocess:
    """What pyarrow.plasma takes for the module subprocess."""

    @staticmethod
    def Popen(command: List[str], **options: Any) -> subprocess.Popen[bytes]:
        assert os.path.basename(command[0]) == "plasma-store-server", command
        return subprocess.Popen([os.environ["PLASMA_STORE_SERVER"], *command[1:]], **options)


if os.environ["PLASMA_TEST_OF"] == "package":
    import plasma_store

    sys.modules["pyarrow.plasma"] = pyarrow.plasma = plasma_store
else:
    import pyarrow.plasma

    pyarrow.plasma.subprocess = _Subprocess

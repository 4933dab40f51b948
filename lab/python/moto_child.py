"""moto's server, which ends when the lab does: the lab holds its standard input open."""

import os
import sys
import threading

from moto.server import main


def exit_with_parent():
    while os.read(0, 4096):
        pass
    os._exit(0)


threading.Thread(target=exit_with_parent, daemon=True).start()
main(sys.argv[1:])

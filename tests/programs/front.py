"""``front.py DOOR ARGUMENTS``: has the launcher run ``badges ARGUMENTS`` with our streams."""

import array
import json
import os
import socket
import sys

door, *arguments = sys.argv[1:]
request = {"arguments": ["-m", "worker.cli", *arguments], "env": dict(os.environ), "cwd": os.getcwd()}  # noqa: PTH109 - a few ms less
with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as launcher:
    launcher.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    launcher.connect(door)
    fds = array.array("i", [0, 1, 2])
    launcher.sendmsg([json.dumps(request).encode()], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)])
    said = int(launcher.recv(16) or 70)
sys.exit(said if said >= 0 else 128 - said)

"""In place of valkey-cli, which the embedded server comes without: ``PORT --user badges ping``."""

import os
import socket
import sys

port, *asked = sys.argv[1:]
assert asked == ["--user", "badges", "ping"], asked
with socket.create_connection(("127.0.0.1", int(port))) as server:
    server.sendall(f"AUTH badges {os.environ['REDISCLI_AUTH']}\r\nPING\r\nQUIT\r\n".encode())
    print(server.makefile().read())

"""Write down what a Python process asks of the network beyond this machine; Python imports this where PYTHONPATH has it.

Each process whose environment has VICINAL_WATCH appends one line of JSON per call to that file: [event, what was asked].
"""

import json
import os
import socket
import sys

_OUT = os.environ.get("VICINAL_WATCH")
_AT = {"socket.connect": 1, "socket.bind": 1, "socket.sendto": 1, "socket.sendmsg": 1}  # the argument with the address
_NAMES = ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr")
_HERE = ("localhost", "::1", "", socket.gethostname())


def _is_here(host: object) -> bool:
    if host is None:
        return True
    text = host.decode(errors="replace") if isinstance(host, bytes) else str(host)
    return text in _HERE or text.startswith("127.") or text.startswith("::ffff:127.")


def _watch(event: str, args: tuple) -> None:
    if event in _AT:
        address = args[_AT[event]]
        if not isinstance(address, tuple) or _is_here(address[0]):  # no tuple: a socket of this machine
            return
    elif event in _NAMES:
        if _is_here(args[0]):
            return
    elif event != "urllib.Request" or args[0].startswith(("file:", "data:")):
        return
    line = json.dumps([event, repr(args)])
    with open(_OUT, "a") as out:
        out.write(line + "\n")


if _OUT:
    sys.addaudithook(_watch)

"""What the command line asks of a server: devices, people, their rights, windows, the counts.

The same commands work on a running server, through its control socket (`live`), and on its data
directory while no server runs (`offline`). The first change what is live as well as what is stored;
the second only the store. `devices`, `users` and `fleet` are the commands, `arguments` reads what
came over the socket, and `fleet_file` is a table of devices on its way there.
"""

from __future__ import annotations

from broker.admin.live import handlers

__all__ = ["handlers"]

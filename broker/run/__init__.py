"""What it takes to run a server for real: the log, the service manager, reloading, backups, a check-up.

`logs` shapes and limits what is logged; `notify` and `watchdog` speak to systemd; `reload` takes in a
changed configuration; `supervisor` joins these with a running server, and `hang_up` remembers a SIGHUP that
comes before there is one. `collector` sets up the garbage collector. `backup` and the checks of `doctor` belong
to commands that run beside a server.
"""

from __future__ import annotations

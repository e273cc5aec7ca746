"""The commands of `fleetfeed`, a module for each group.

At import they need typer alone: whatever a command works with is imported when it runs, so that
`fleetfeed --help` stays instant. They do without `from __future__ import annotations`, as typer
reads the annotations at run time.
"""

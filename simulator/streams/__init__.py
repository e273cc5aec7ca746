"""Real data that ships with the package; `LICENSES.md` names the source and terms of each file."""

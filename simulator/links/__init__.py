"""Links: what lies between a device and the internet, and what it costs the device.

`profiles` names the usual ones; `link` is one direction of one connection as a pure function of time; `modem` counts
bytes and segments as a modem would and tells `energy` when the radio works. `linked` is a device's
link over its life, `channel` one connection over it, between the device's protocol and its socket; `clockwork` is the
one timer of all links of a process.
"""

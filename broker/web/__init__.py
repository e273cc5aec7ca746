"""The port for operators: metrics, health, and the live page, over HTTP on the server's own event loop.

`opening` opens it where the settings say so. `subject` is what is looked at, `server` the port, `app` its
routes; `access` says who may see them, `turns` when they are answered, and `answers` how. A reading becomes
Prometheus' form in `exposition`, Mosquitto's in `systree`, and the state of the server a verdict in `health`.
`pages` are what people look at, `streams` what they see change, `files` what their browsers load.

Whoever looks changes nothing and slows nothing down: all is made of readings that are there anyway, a
viewer that does not read is dropped, and the libraries for it are loaded only where `http.bind` is set. It
may import all of `broker`; nothing of `broker` imports it but what opens, or examines, that port.
"""

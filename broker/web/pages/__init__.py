"""What people look at: `overview`, `model`, `device` and `items` have the routes of a page, as `routes(subject)`.

Beside `overview` stand `history`, what its charts begin with, and `worst`, the devices that do worst; beside
`device` its `device_facts`, what viewers of it are told (`device_live`), and the last `frames_seen`. `send` is
where an item is tried and published, `payloads` what one says. `words` and `numbers` put figures in a form for
people and for JSON.
"""

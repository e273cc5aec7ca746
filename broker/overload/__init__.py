"""What the server does when more comes than it can take, and what it may spend on whom.

Delay is measured (`delays`) and becomes one of six levels (`levels`). Each level gives up a little more
of what matters least: first the immediacy of single changes, then variety, then personal ranks; then
items of low priority wait (`admission`), and at last those who send most are not read (`senders`). Urgent
items pass at every level, and nothing that was acknowledged is dropped at any. Clients that all come at
once are let in at a pace (`pace`). Budgets of devices are `allowances`, with `quiet_hours`; those of
publishers, and of what devices say, are with `senders`. At every level work is done in portions that hold
nothing else up for long (`portions`), in turns (`coalescing`).

All of it is pure, with the time as an argument, but for `watch`, which takes the samples and carries out
what follows. It may import `broker.config`, and of feedgen and devices what items, slots and time zones are.
"""

"""Who may connect and what each client may do.

`identity` has the noun and `rules` the verbs over topics, both pure. `credentials` decides whom a CONNECT
names and what would prove it; `passwords`, `tokens`, `login_limits` and `tls` are the ways to prove it,
and `door` joins them into one answer.
"""

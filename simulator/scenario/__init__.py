"""Scenarios: what firmware teams run every day, from a TOML file to a verdict.

`model` and `tables` are what a file may say, `loading` reads it and says what is wrong, `words` and `figures` are for sentences.
`timeline` puts a scenario on a clock, `classes` makes devices of it and `offers` what is published; all three are pure.
`posting` publishes, `acts` lets faults happen, `crowd` are the people, `sight` and `samples` watch, `gauges` hear what the
server says of its load, `balancer` stands before several nodes; `settling` compares and judges at rest, `aftermath` says what
trouble did to others. `run` joins them against a `host`, `verdict` and `outcome` say what came
of it, and `screen` shows it while it goes on. `background` is for work beside other work.
"""

"""The load generator: prepares requests, sends them from processes of its own, and says what became of each.

A run passes through the files in this order: `texts` and `tasks` make `requests`; `arrivals` says when; `plan` deals
both out; `client` sends over its `transports`, once per process; `driver` starts the processes and joins their
`records`; `summary` condenses them; `tables` and `plot` show it. `generator` makes several runs of it, and `search`
finds the highest rate for a p99.
"""

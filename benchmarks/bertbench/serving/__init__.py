"""What serving costs and keeps: each module is one figure of a real server in a process of its own, from one command.

`server_process` starts the server, `workload` makes the requests, `offline` is what the engine does without a server.
"""

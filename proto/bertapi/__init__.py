"""The API of bertserve: its messages and stubs (`v1`), a Python client (`client`) and a command line (`command`)."""

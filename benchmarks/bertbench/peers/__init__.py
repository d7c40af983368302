"""What a user would otherwise write or install, under the same load as bertserve and with as many threads.

`transformers_server` is a server in a file, as good as its idea allows; `comparison` starts each and drives them alike.
"""

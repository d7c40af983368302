"""The Open Inference Protocol, as far as it is served: the .proto and what `make proto` generates of it.

Only servers import this: the protocol's package is called `inference` everywhere, so that a process can hold one copy.
"""

"""The Open Inference Protocol, as far as it is served: the .proto and what `make proto` generates of it.

Only programs import this, never the client library: the protocol's package is called `inference` everywhere, and a
process can hold one copy.
"""

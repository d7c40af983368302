"""Around every call, outermost first: access, authentication, reception (`intake`), tracing, counting, translation."""

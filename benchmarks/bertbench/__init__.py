"""Benchmarks of what bertserve serves: each command prints a table, and writes JSON and a plot."""

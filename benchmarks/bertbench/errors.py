"""What the commands refuse, in one line for the person who reads it."""


class BenchError(Exception):
    """Something that cannot be measured. The message says what is wrong, where, and what to do."""

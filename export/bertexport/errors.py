"""What stops an export, in the words that the command prints."""

from __future__ import annotations


class ExportError(Exception):
    """A checkpoint that cannot become a bundle. The message says what is wrong, where, and what to do, in one line."""

"""The links around every method's handler, a file each; `assembly` puts them together, and has their table."""

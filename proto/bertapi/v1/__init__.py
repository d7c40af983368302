"""Version 1 of the API: the .proto and what `make proto` generates of it."""

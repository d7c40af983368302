"""`bertbench floods`: what a server takes in memory, and what a small caller waits, while other clients misbehave."""

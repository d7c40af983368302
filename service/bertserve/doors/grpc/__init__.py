"""The gRPC door: its port, what every call passes, and the services behind it."""

"""What the system handed to this process: its streams, its descriptors, and the limits on its cores and memory."""

"""From requests to batches: `policy` decides, as pure functions of (queue, now, speed); `batcher` acts."""

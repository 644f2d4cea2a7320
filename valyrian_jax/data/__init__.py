"""From text or shards to token windows: reading, splitting, encoding, batches."""

"""What happens to one shard in one process: read, transform, embed, rewrite, index, write, check. No Ray."""

"""FAISS: factory strings, shard indexes with the store's ids, search over shards. Bytes and arrays at the door."""

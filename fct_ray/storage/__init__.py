"""The bytes of a store: objects, documents, versions and Parquet shards, on a local path or on `s3://`."""

"""Where, when and how many times: Ray clusters, train loops, shard streams, meters, resume. Nothing else imports ray."""

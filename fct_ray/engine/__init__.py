"""Where, when and how many times: Ray clusters, pools of actors, tasks, the trainer, progress. Nothing else imports ray."""

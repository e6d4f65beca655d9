"""Where, when and how many times: Ray clusters, train loops, shard streams, meters, resume. Nothing else imports ray."""

import os

# Compute threads that wait must sleep, not spin: two spinning threads beside another busy process on 2 cores made
# training 4 to 10 times slower. Read by OpenMP when torch and faiss are first imported, also in Ray's workers.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

"""The upgrade: plan, pairs, fit, gate, stream, verify, publish."""

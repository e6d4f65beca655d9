"""What the product does, one module or folder for each verb: upgrade, backfill, adopt, edit, verify, compare and so on."""

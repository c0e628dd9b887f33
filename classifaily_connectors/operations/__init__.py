"""Every endpoint once, as generators that a sync and an async driver run alike (see `effects`)."""

"""One experiment of many systems: what to train, what is done, and the tables of it."""

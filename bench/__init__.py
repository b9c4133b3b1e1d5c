"""Every published figure has its command here: `make bench ONLY=latency`."""

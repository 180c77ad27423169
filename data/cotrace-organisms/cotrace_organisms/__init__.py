"""Model organisms: small models whose mechanism is known, read by cotrace."""

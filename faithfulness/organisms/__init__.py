"""Model organisms: small models whose mechanism is known, and the tasks that they were trained on."""

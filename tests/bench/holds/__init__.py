"""How long a hold waits for its answer, and where: under load, and while many accounts' periods end at once."""

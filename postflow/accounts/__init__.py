"""Who is connected where: the accounts table, with credentials sealed, and the servers and apps tables."""

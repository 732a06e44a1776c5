"""What people should hear outside the pages.

notices        the table, an outbox of words for a mailbox      sender   by mail and to one webhook
posts_at_risk  whose account will not be able to publish them"""

"""The story before post_date: what a person writes, plans, moves and cancels.

scheduling preflight lists twins   the stories, what a network would refuse, the lists of the queue, the same post again
posts deliveries             the tables, and the transitions that a person makes"""

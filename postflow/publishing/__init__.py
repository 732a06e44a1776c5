"""A delivery's way out: from minutes before its date until everybody knows what became of it.

preparing, sending, reconciling, rechecking, sweeping, restoring   the stories; outcomes: what is written down after each
transitions turns due   how a row moves, whose turn it is, what is noted beside       outgoing   what a platform is given
manual verify_link      what an operator does by hand, and a person's word on an undecided post"""

"""What whoever runs PostFlow needs: `postflow doctor` and what it looks at, and the upkeep of the database.

doctor durability heartbeat   is all well?      migrate retention   tables brought up to date, and kept small
periodic_runs totals          when each periodic job ran, and how often what happened"""

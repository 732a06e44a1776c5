"""`postflow dev`: everything on this machine, and nothing left of it afterwards.

command supervisor child_processes published_lines   the command and what it keeps running
embedded_postgres                                     a server of our own, here and in the tests"""

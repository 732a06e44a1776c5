"""What every network here has in common: HTTP, a request on its way, what is remembered. It knows no network.

wire params dispatch call injection        from the socket to a handler and back; injection: what a switch does to a request
network instance family software           all state; a server of it; what a network's package tells of itself; its options
model store ledger clock rate_limits       the records, where they live, what happened for tests to ask, time, counted requests
accounts pages files links media           connecting in one line, HTML, files and their addresses, looking into files
"""

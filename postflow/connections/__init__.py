"""An account's connection to its network: made, kept alive, ended.

connecting oauth_attempts disconnecting   a person comes and goes      meta_callbacks   what Meta calls when they do so there
access token_refresh limit_refresh        a dead token is noticed once, the others are refreshed, servers' limits asked anew"""

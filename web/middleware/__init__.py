"""What serves every request, whichever page it is for.

database request_ids access_log rate_limits security_headers   before and after the view
host_names schema_gate plain_http static_files                  answers in its place
error_pages template_filters                                    what people read"""

"""`urd serve`: judge images that come over HTTP."""

"""Judge the images of an archive on a cluster, with Ray: each once, also after a kill."""

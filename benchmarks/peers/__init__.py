"""The same work done with something else; one file a peer.

Each file says what its peer promises of a commit. Only the standard library's may be imported by
the list of works; the others are loaded when they are measured.
"""

"""One file for each command, or for a few that are much alike. No command imports another."""

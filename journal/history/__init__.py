"""What happened in a job, read back from its commits.

Entries between two positions, the outcome of each attempt, durations, throughput, errors grouped,
and what is hidden when it is shown.

May import: ``store`` and what is below.
"""

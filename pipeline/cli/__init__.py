"""The command line: results on stdout, talk and progress on stderr, documented exit codes.

Every module here imports what is heavy inside its commands, so that `--help` and completion answer at once.
"""

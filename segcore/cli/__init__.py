"""The `segcore` command: one verb a file, imported when it is asked for."""

"""What `segcore doctor` looks for beside the faults that every reader reports."""

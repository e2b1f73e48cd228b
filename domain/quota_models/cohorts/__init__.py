"""The quota model `cohorts`: Kueue's rules for borrowing, preempting and taking turns."""

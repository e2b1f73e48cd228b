"""What a worker lets others observe of it: logs, traces and metrics."""

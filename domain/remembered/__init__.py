"""What is remembered from round to round, so that a round looks at what has changed."""

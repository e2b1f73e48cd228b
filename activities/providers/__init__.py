"""Sources of capacity behind the provider port."""

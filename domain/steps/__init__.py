"""Steps of a round beside the turns."""

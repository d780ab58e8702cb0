"""From a Result (or a partial one) to a plotly figure, a reading in plain words, or a file. Never imports torch."""

"""What every page stands in: the frame with its navigation, the selection, the jobs, the address, the theme."""

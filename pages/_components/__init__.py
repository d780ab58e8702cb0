"""What pages share: the shell, the selection, the address as state, jobs, forms and the analysis page."""

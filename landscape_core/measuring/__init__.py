"""What analyses share when they compute: their context, what grows and resumes, a run's path, the top of the Hessian."""

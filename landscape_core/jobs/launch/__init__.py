"""How a job is started, and what a process that was started for one says of itself. Only here is Dash known below the pages."""

"""The daemon: schedules, a queue of jobs, webhooks, its own pages. Read service, generation, scheduler, queue."""

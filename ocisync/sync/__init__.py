"""One job, from facts to published tags. Read in this order: job, survey, select, plan, copy, publish, run."""

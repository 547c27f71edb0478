"""One job, from facts to published tags. Read in this order: survey, select, plan, copy, publish, job."""

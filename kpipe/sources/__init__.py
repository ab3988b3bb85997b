"""Sources: where records come from (stdin, files, topics). They read and commit nothing by themselves."""

"""What a reader does with a study, as plain steps over one unit of work: each audited and told to the open pages."""

"""Static pages of studies: an index to search, and for each study its grid, lineage, mixtures, documents and generations."""

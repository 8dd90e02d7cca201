"""Units of work as DBOS workflows: queued in a database, carried out by any process on it, each at most once to its
end. Sequences; decides nothing, and takes up nothing that it was not given."""

"""From a tree of YAML documents to one Estate value, or every mistake at once with its place."""

"""The suite: mirrors the package, plus cases/ (data), house/ (rules of the house) and lab/ (real machines)."""

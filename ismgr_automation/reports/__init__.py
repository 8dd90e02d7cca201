"""Values to text: JUnit, and what else people and machines read. Pure; nothing is written to disk here."""

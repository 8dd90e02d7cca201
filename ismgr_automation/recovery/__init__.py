"""Pure decisions about losing a site and coming back: paths, safety rules, what was measured, verdicts, the calendar.
Values in, values out; no clock, no host, no database."""

"""The command line: arguments -> api -> view -> exit code. Nothing is decided here."""

# Thin on purpose: each target calls the script of its name in scripts/. `make help` lists them.
.DEFAULT_GOAL := help
.PHONY: demo demo-patch demo-drill test check coverage bench down docs lock help

demo: ## two sites on this machine, from one Git commit, patched, one of them lost and back (installs what is missing)
	@scripts/demo
demo-patch: ## its second act alone: its machines are patched in waves
	@scripts/demo-patch
demo-drill: ## its third act alone: a site is lost, and comes back
	@scripts/demo-drill
test: ## the whole suite: checks, then pytest on real machines (installs what is missing)
	@scripts/test
check: ## lint, format, types, import contracts
	@scripts/check
coverage: ## the suite once more, with a report of what no test passes
	@scripts/coverage
bench: ## measure; prints a table
	@scripts/bench
down: ## remove the labs and build/
	@scripts/down
docs: ## write docs/reference again from the code
	@scripts/docs
lock: ## write requirements.lock again from pyproject.toml
	@scripts/lock
help: ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

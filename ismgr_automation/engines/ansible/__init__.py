"""Ansible: playbooks on hosts, existing inventories, locked Galaxy requirements. Values go in, values come out."""

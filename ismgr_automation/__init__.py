"""One plan across cloud, metal and hosts: Pulumi stacks, Ansible playbooks, verification, from one Git repository."""

__version__ = "0.1.0"

"""Plug-ins that Ansible loads by path; nothing of ismgr imports them."""

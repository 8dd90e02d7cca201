"""Tests of signatures, over the real ssh-keygen, ssh-agent and gpg."""

"""Typed resources for Pulumi programs. They only describe: what they describe is done by the provider.

from ismgr_automation.resources import redfish, dns, site
"""

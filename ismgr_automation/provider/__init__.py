"""The native Pulumi provider ``pulumi-resource-ismgr``: machines over Redfish, record sets over signed DNS updates."""

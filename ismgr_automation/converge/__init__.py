"""The verbs over stacks and hosts together: observe, plan, apply, drift, verify, inventory, destroy. Ports only."""

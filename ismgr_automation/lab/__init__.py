"""A data center in a box: two sites of Debian machines on this host, each with a BMC, for demo and tests. Only the
command line and tests import it; nothing else in the library knows that there is a lab."""

from ismgr_automation.lab.box import Lab, MachineStatus, Status, down
from ismgr_automation.lab.debs import Package
from ismgr_automation.lab.faults import Fault
from ismgr_automation.lab.faults import Kind as FaultKind
from ismgr_automation.lab.image import remove_all as remove_images

__all__ = ["Fault", "FaultKind", "Lab", "MachineStatus", "Package", "Status", "down", "remove_images"]

"""Doubles of every port over one small world in memory, public so that users can rehearse their own sites in tests.
Enough for a whole site without any process; nothing here may talk to a real one.

>>> world = MemoryWorld()
>>> world.programs["names"] = lambda config, made: Desired(resources={"www": {"to": "192.0.2.1"}})
"""

from __future__ import annotations

from ismgr_automation.ports.memory.advisories import MemoryAdvisories
from ismgr_automation.ports.memory.approvals import (
    MemoryApprovals,
    MemoryHistory,
    MemoryPins,
    MemorySignatures,
    MemorySigner,
)
from ismgr_automation.ports.memory.backups import MemoryBackups, MemoryBackupWorld, MemoryFileBackups
from ismgr_automation.ports.memory.drills import MemoryDrillJournal, MemoryDrillStore, MemoryFunctions
from ismgr_automation.ports.memory.evidence import MemoryAnchor, MemoryEvidenceLog
from ismgr_automation.ports.memory.faults import MemoryFaults
from ismgr_automation.ports.memory.hosts import MemoryPlaybookEngine, MemoryProber, MemoryVerifier
from ismgr_automation.ports.memory.isolation import MemoryBubbleWorld, MemoryClones, MemoryIsolation
from ismgr_automation.ports.memory.kept import MemoryContent, MemoryLedger, MemorySecretStore, MemorySource
from ismgr_automation.ports.memory.leases import MemoryClock, MemoryExecutors, MemoryLeaseStore
from ismgr_automation.ports.memory.package_world import MemoryMachine, MemoryPackageWorld
from ismgr_automation.ports.memory.packages import (
    MemoryFacts,
    MemoryPackages,
    MemoryRestarter,
)
from ismgr_automation.ports.memory.patching import MemoryFirstSeen, MemoryPatchStore
from ismgr_automation.ports.memory.probe import MemoryProbe, MemoryProbeWorld, MemoryRunningProbe
from ismgr_automation.ports.memory.recovery import Entry, MemoryMember, MemoryRecoveryWorld
from ismgr_automation.ports.memory.recovery_fences import MemoryFences, MemorySwitches
from ismgr_automation.ports.memory.recovery_probe import MemoryWorldProbe
from ismgr_automation.ports.memory.recovery_verbs import MemoryStandby
from ismgr_automation.ports.memory.runs import MemoryRunLedger, MemoryStepJournal
from ismgr_automation.ports.memory.sequencer import (
    Boundary,
    Death,
    InlineSequencer,
    Killed,
    MortalJournal,
    MortalLedger,
)
from ismgr_automation.ports.memory.snapshots import MemorySnapshots
from ismgr_automation.ports.memory.stacks import MemoryStackEngine
from ismgr_automation.ports.memory.upkeep import MemoryBalancer, MemoryCluster, MemoryMachineUpkeep, MemoryUpkeepWorld
from ismgr_automation.ports.memory.world import UNKNOWN, Desired, MemoryWorld, Program, StackLock, Task

__all__ = [
    "UNKNOWN",
    "Boundary",
    "Death",
    "Desired",
    "Entry",
    "InlineSequencer",
    "Killed",
    "MemoryAdvisories",
    "MemoryAnchor",
    "MemoryApprovals",
    "MemoryBackupWorld",
    "MemoryBackups",
    "MemoryBalancer",
    "MemoryBubbleWorld",
    "MemoryClock",
    "MemoryClones",
    "MemoryCluster",
    "MemoryContent",
    "MemoryDrillJournal",
    "MemoryDrillStore",
    "MemoryEvidenceLog",
    "MemoryExecutors",
    "MemoryFacts",
    "MemoryFaults",
    "MemoryFences",
    "MemoryFileBackups",
    "MemoryFirstSeen",
    "MemoryFunctions",
    "MemoryHistory",
    "MemoryIsolation",
    "MemoryLeaseStore",
    "MemoryLedger",
    "MemoryMachine",
    "MemoryMachineUpkeep",
    "MemoryMember",
    "MemoryPackageWorld",
    "MemoryPackages",
    "MemoryPatchStore",
    "MemoryPins",
    "MemoryPlaybookEngine",
    "MemoryProbe",
    "MemoryProbeWorld",
    "MemoryProber",
    "MemoryRecoveryWorld",
    "MemoryRestarter",
    "MemoryRunLedger",
    "MemoryRunningProbe",
    "MemorySecretStore",
    "MemorySignatures",
    "MemorySigner",
    "MemorySnapshots",
    "MemorySource",
    "MemoryStackEngine",
    "MemoryStandby",
    "MemoryStepJournal",
    "MemorySwitches",
    "MemoryUpkeepWorld",
    "MemoryVerifier",
    "MemoryWorld",
    "MemoryWorldProbe",
    "MortalJournal",
    "MortalLedger",
    "Program",
    "StackLock",
    "Task",
]

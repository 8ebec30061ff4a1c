//! Every directive of a service unit (systemd 252) and what becomes of it.
//!
//! Four lists: carried over; covered in another way, or without meaning in a machine; a protection that is lost, which
//! is noted; and asked for in vain, which is reported.

/// What becomes of a directive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Treatment {
    /// Carried over.
    Supported,
    /// Nothing is lost; the reason.
    Covered(&'static str),
    /// A protection is not in force; the reason.
    NotApplied(&'static str),
    /// The service may behave otherwise; what is missing.
    Unsupported(&'static str),
}

/// Directives with a reason.
type Group = (&'static str, &'static [&'static str]);

/// Carried over into the service, or decided value by value in the translation.
pub const SUPPORTED: &[&str] = &[
    "After",
    "AmbientCapabilities",
    "BindsTo",
    "BusName",
    "CacheDirectory",
    "CacheDirectoryMode",
    "CapabilityBoundingSet",
    "ConfigurationDirectory",
    "DynamicUser",
    "Environment",
    "EnvironmentFile",
    "ExecStart",
    "ExecStartPost",
    "ExecStartPre",
    "ExecStop",
    "Group",
    "IgnoreSIGPIPE",
    "KillMode",
    "KillSignal",
    "LimitAS",
    "LimitCORE",
    "LimitCPU",
    "LimitDATA",
    "LimitFSIZE",
    "LimitLOCKS",
    "LimitMEMLOCK",
    "LimitMSGQUEUE",
    "LimitNICE",
    "LimitNOFILE",
    "LimitNPROC",
    "LimitRSS",
    "LimitRTPRIO",
    "LimitSIGPENDING",
    "LimitSTACK",
    "LogsDirectory",
    "LogsDirectoryMode",
    "Nice",
    "NoNewPrivileges",
    "OOMPolicy",
    "OOMScoreAdjust",
    "PIDFile",
    "ReadWriteDirectories",
    "ReadWritePaths",
    "RemainAfterExit",
    "Requires",
    "Requisite",
    "Restart",
    "RestartSec",
    "RootDirectory",
    "RootImage",
    "RuntimeDirectory",
    "RuntimeDirectoryMode",
    "SendSIGHUP",
    "SendSIGKILL",
    "Sockets",
    "StandardError",
    "StandardInput",
    "StandardOutput",
    "StateDirectory",
    "StateDirectoryMode",
    "SuccessExitStatus",
    "SupplementaryGroups",
    "TimeoutSec",
    "TimeoutStartSec",
    "TimeoutStopSec",
    "Type",
    "UMask",
    "UnsetEnvironment",
    "User",
    "Wants",
    "WorkingDirectory",
];

/// Covered otherwise, or without meaning.
pub const COVERED: &[Group] = &[
    ("it is for people", &["Description", "Documentation", "SourcePath"]),
    (
        "order and start follow the definition",
        &[
            "AllowIsolate",
            "Before",
            "CollectMode",
            "Conflicts",
            "DefaultDependencies",
            "IgnoreOnIsolate",
            "JobRunningTimeoutSec",
            "JobTimeoutAction",
            "JobTimeoutRebootArgument",
            "JobTimeoutSec",
            "OnFailureJobMode",
            "OnSuccessJobMode",
            "PartOf",
            "PropagatesReloadTo",
            "PropagatesStopTo",
            "RefuseManualStart",
            "RefuseManualStop",
            "ReloadPropagatedFrom",
            "StopPropagatedFrom",
            "StopWhenUnneeded",
            "SurviveFinalKillSignal",
        ],
    ),
    ("file systems are mounted before any service starts", &["RequiresMountsFor", "WantsMountsFor"]),
    ("a service is never reloaded: a change is a new release", &["ExecReload", "ReloadSignal"]),
    (
        "every restart waits longer than the one before",
        &["StartLimitBurst", "StartLimitInterval", "StartLimitIntervalSec"],
    ),
    ("the guest finds the main process itself", &["GuessMainPID"]),
    ("messages of every process of the service count", &["NotifyAccess"]),
    ("directories last as long as the machine runs", &["RuntimeDirectoryPreserve", "TimeoutCleanSec"]),
    ("the directory comes with the image", &["ConfigurationDirectoryMode"]),
    (
        "output goes to the log of the machine, under the service's name",
        &[
            "LogExtraFields",
            "LogLevelMax",
            "LogNamespace",
            "LogRateLimitBurst",
            "LogRateLimitIntervalSec",
            "SyslogFacility",
            "SyslogIdentifier",
            "SyslogLevel",
            "SyslogLevelPrefix",
        ],
    ),
    (
        "no service has a terminal",
        &["TTYColumns", "TTYPath", "TTYReset", "TTYRows", "TTYVHangup", "TTYVTDisallocate"],
    ),
    ("nobody logs in", &["UtmpIdentifier", "UtmpMode"]),
    ("the root is read-only and verified", &["ProtectSystem", "ReadOnlyDirectories", "ReadOnlyPaths"]),
    ("the machine has no homes of people", &["ProtectHome"]),
    ("control groups belong to the guest", &["Delegate", "DelegateSubgroup", "DisableControllers", "Slice"]),
    (
        "nothing is measured per service",
        &[
            "BlockIOAccounting",
            "CPUAccounting",
            "IOAccounting",
            "IPAccounting",
            "MemoryAccounting",
            "TasksAccounting",
        ],
    ),
    ("file systems of the kernel are always mounted", &["MountAPIVFS", "MountFlags", "PrivateMounts"]),
    ("PID 1 passes nothing of its own environment on", &["PassEnvironment"]),
    ("it acts with `RootDirectory=` only", &["RootDirectoryStartOnly"]),
];

const NO_SYSCALL_FILTER: &str = "system calls are not filtered";
const NO_NAMESPACE: &str = "all services of a machine see the same system";
const NO_CGROUP: &str = "resources are limited by the size of the machine, not per service";

/// Protections that are lost.
pub const NOT_APPLIED: &[Group] = &[
    (
        NO_SYSCALL_FILTER,
        &[
            "LockPersonality",
            "MemoryDenyWriteExecute",
            "ProtectClock",
            "RestrictAddressFamilies",
            "RestrictNamespaces",
            "RestrictRealtime",
            "RestrictSUIDSGID",
            "SystemCallArchitectures",
            "SystemCallErrorNumber",
            "SystemCallFilter",
            "SystemCallLog",
        ],
    ),
    (
        NO_NAMESPACE,
        &[
            "ExecPaths",
            "IPCNamespacePath",
            "InaccessibleDirectories",
            "InaccessiblePaths",
            "JoinsNamespaceOf",
            "NetworkNamespacePath",
            "NoExecPaths",
            "PrivateDevices",
            "PrivateIPC",
            "PrivateNetwork",
            "PrivateTmp",
            "PrivateUsers",
            "ProcSubset",
            "ProtectControlGroups",
            "ProtectHostname",
            "ProtectKernelLogs",
            "ProtectKernelModules",
            "ProtectKernelTunables",
            "ProtectProc",
            "TemporaryFileSystem",
        ],
    ),
    (
        NO_CGROUP,
        &[
            "AllowedCPUs",
            "AllowedMemoryNodes",
            "BlockIOReadBandwidth",
            "BlockIOWeight",
            "BlockIOWriteBandwidth",
            "CPUQuota",
            "CPUQuotaPeriodSec",
            "CPUShares",
            "CPUWeight",
            "DefaultMemoryLow",
            "DefaultMemoryMin",
            "IODeviceLatencyTargetSec",
            "IODeviceWeight",
            "IOReadBandwidthMax",
            "IOReadIOPSMax",
            "IOWeight",
            "IOWriteBandwidthMax",
            "IOWriteIOPSMax",
            "ManagedOOMMemoryPressure",
            "ManagedOOMMemoryPressureLimit",
            "ManagedOOMPreference",
            "ManagedOOMSwap",
            "MemoryHigh",
            "MemoryLimit",
            "MemoryLow",
            "MemoryMax",
            "MemoryMin",
            "MemorySwapMax",
            "StartupAllowedCPUs",
            "StartupAllowedMemoryNodes",
            "StartupBlockIOWeight",
            "StartupCPUShares",
            "StartupCPUWeight",
            "StartupIOWeight",
            "TasksMax",
        ],
    ),
    (
        "access is not restricted per service",
        &[
            "BPFProgram",
            "DeviceAllow",
            "DevicePolicy",
            "IPAddressAllow",
            "IPAddressDeny",
            "IPEgressFilterPath",
            "IPIngressFilterPath",
            "RestrictFileSystems",
            "RestrictNetworkInterfaces",
            "SocketBindAllow",
            "SocketBindDeny",
        ],
    ),
    (
        "machines load no security module policy",
        &["AppArmorProfile", "SELinuxContext", "SmackProcessLabel", "SecureBits"],
    ),
    ("nothing is cleaned up when the service stops", &["RemoveIPC"]),
    ("no session is opened for the service", &["KeyringMode", "PAMName"]),
    ("the service is watched by its readiness check alone", &["WatchdogSec", "WatchdogSignal"]),
];

/// Asked for in vain.
pub const UNSUPPORTED: &[Group] = &[
    ("the command never runs", &["ExecCondition", "ExecStopPost"]),
    ("other units are not started", &["OnFailure", "OnSuccess", "Upholds"]),
    (
        "a failed service never stops the machine",
        &[
            "FailureAction",
            "FailureActionExitStatus",
            "RebootArgument",
            "StartLimitAction",
            "SuccessAction",
            "SuccessActionExitStatus",
        ],
    ),
    (
        "the exit status does not decide about a restart",
        &["RestartForceExitStatus", "RestartPreventExitStatus"],
    ),
    (
        "a process is stopped with `KillSignal=`, then SIGKILL",
        &[
            "FinalKillSignal",
            "RestartKillSignal",
            "TimeoutAbortSec",
            "TimeoutStartFailureMode",
            "TimeoutStopFailureMode",
        ],
    ),
    ("a service may run for ever", &["RuntimeMaxSec", "RuntimeRandomizedExtraSec"]),
    ("a service ends with its main process", &["ExitType"]),
    (
        "nothing is mounted for a service",
        &[
            "BindPaths",
            "BindReadOnlyPaths",
            "ExtensionDirectories",
            "ExtensionImages",
            "MountImages",
            "RootHash",
            "RootHashSignature",
            "RootImageOptions",
            "RootVerity",
        ],
    ),
    (
        "credentials are not passed",
        &[
            "ImportCredential",
            "LoadCredential",
            "LoadCredentialEncrypted",
            "SetCredential",
            "SetCredentialEncrypted",
        ],
    ),
    (
        "the kernel's default scheduling is used",
        &[
            "CPUAffinity",
            "CPUSchedulingPolicy",
            "CPUSchedulingPriority",
            "CPUSchedulingResetOnFork",
            "IOSchedulingClass",
            "IOSchedulingPriority",
            "LimitRTTIME",
            "NUMAMask",
            "NUMAPolicy",
            "TimerSlackNSec",
        ],
    ),
    ("the kernel's defaults are used", &["CoredumpFilter", "Personality"]),
    (
        "file descriptors are not passed",
        &[
            "FileDescriptorStoreMax",
            "NonBlocking",
            "OpenFile",
            "StandardInputData",
            "StandardInputText",
            "USBFunctionDescriptors",
            "USBFunctionStrings",
        ],
    ),
    ("programs are looked up in the image's `PATH`", &["ExecSearchPath"]),
    ("restarts follow the guest's own pace", &["RestartMaxDelaySec", "RestartMode", "RestartSteps"]),
];

/// What becomes of `directive` in `section`. `None`: unknown to systemd 252, too.
#[must_use]
pub fn treatment(section: &str, directive: &str) -> Option<Treatment> {
    if section.starts_with("X-") || directive.starts_with("X-") {
        return Some(Treatment::Covered("it is for other programs"));
    }
    if section == "Install" {
        return Some(Treatment::Covered("a service runs because the definition names it"));
    }
    if section == "Unit" && (directive.starts_with("Condition") || directive.starts_with("Assert")) {
        return Some(Treatment::Covered(
            "a service runs because the definition names it, so its conditions count as met",
        ));
    }
    if !matches!(section, "Unit" | "Service") {
        return None;
    }
    if SUPPORTED.contains(&directive) {
        return Some(Treatment::Supported);
    }
    let find = |groups: &'static [Group]| {
        groups.iter().find(|(_, names)| names.contains(&directive)).map(|(why, _)| *why)
    };
    find(COVERED)
        .map(Treatment::Covered)
        .or_else(|| find(NOT_APPLIED).map(Treatment::NotApplied))
        .or_else(|| find(UNSUPPORTED).map(Treatment::Unsupported))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_directive_stands_in_one_list() {
        let mut seen = BTreeSet::new();
        let grouped = [COVERED, NOT_APPLIED, UNSUPPORTED].concat();
        for name in grouped.iter().flat_map(|(_, names)| *names).chain(SUPPORTED) {
            assert!(seen.insert(*name), "{name}");
        }
    }

    #[test]
    fn sections() {
        assert_eq!(treatment("Service", "Type"), Some(Treatment::Supported));
        assert!(matches!(treatment("Install", "WantedBy"), Some(Treatment::Covered(_))));
        assert!(matches!(treatment("Unit", "AssertPathExists"), Some(Treatment::Covered(_))));
        assert!(matches!(treatment("Service", "X-Snapd"), Some(Treatment::Covered(_))));
        assert!(matches!(treatment("Service", "PrivateTmp"), Some(Treatment::NotApplied(_))));
        assert_eq!(treatment("Service", "Typo"), None);
        assert_eq!(treatment("Socket", "ListenStream"), None);
    }
}

//! Landlock: the files that may be opened, and the ports that may be connected to.

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, LandlockStatus, NetPort, RestrictionStatus, Ruleset,
    RulesetAttr as _, RulesetCreatedAttr as _, RulesetError, RulesetStatus, Scope, make_bitflags,
    path_beneath_rules,
};

use super::rules::Rules;

/// The newest version that this was tested with. All its rights are taken away, as far as the kernel knows them.
const TESTED: ABI = ABI::V6;

/// Restricts this thread and all that it will start. Returns what is restricted, or why nothing is.
pub(super) fn restrict(rules: &Rules) -> Result<String, String> {
    let status = apply(rules).map_err(|error| format!("this kernel's Landlock does not work: {error}"))?;
    let kinds = match status.landlock {
        LandlockStatus::NotEnabled => {
            return Err("Landlock is switched off (the kernel's parameter lsm=)".into());
        }
        LandlockStatus::Available { effective_abi, .. } if status.ruleset != RulesetStatus::NotEnforced => {
            match effective_abi {
                ABI::V1 | ABI::V2 | ABI::V3 => "files",
                ABI::V4 | ABI::V5 => "files, ports",
                _ => "files, ports, signals",
            }
        }
        _ => return Err("there is no Landlock (Linux before 5.13, or a container forbids it)".into()),
    };
    Ok(format!("Landlock ({kinds})"))
}

fn apply(rules: &Rules) -> Result<RestrictionStatus, RulesetError> {
    let read = make_bitflags!(AccessFs::{ReadFile | ReadDir});
    let change = make_bitflags!(AccessFs::{
        WriteFile | Truncate | MakeReg | MakeDir | RemoveFile | RemoveDir | Refer
    });
    let append = make_bitflags!(AccessFs::{WriteFile | MakeReg});
    let log = if rules.rotates_log {
        append | AccessFs::ReadDir | AccessFs::RemoveFile
    } else {
        append
    };
    let mut ruleset = Ruleset::default()
        .handle_access(AccessFs::from_all(TESTED))?
        // No rule allows a port to listen on.
        .handle_access(AccessNet::BindTcp)?;
    if rules.ports.is_some() {
        ruleset = ruleset.handle_access(AccessNet::ConnectTcp)?;
    }
    let ports = rules.ports.iter().flatten();
    let ports = ports.map(|port| Ok::<_, RulesetError>(NetPort::new(*port, AccessNet::ConnectTcp)));
    ruleset
        .scope(scopes())?
        .create()?
        .add_rules(path_beneath_rules(&rules.read, read))?
        .add_rules(path_beneath_rules(&rules.write, read | change))?
        .add_rules(path_beneath_rules(&rules.log, log))?
        .add_rules(path_beneath_rules(["/dev/null"], read | AccessFs::WriteFile))?
        .add_rules(ports)?
        .restrict_self()
}

/// Signals to other programs, and abstract unix sockets unless the service manager listens on one.
fn scopes() -> BitFlags<Scope> {
    let manager = std::env::var_os("NOTIFY_SOCKET");
    if manager.is_some_and(|name| name.as_encoded_bytes().starts_with(b"@")) {
        Scope::Signal.into()
    } else {
        Scope::from_all(TESTED)
    }
}

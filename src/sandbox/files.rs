//! Landlock: which files may be opened, and which ports connected to.

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, LandlockStatus, NetPort, Ruleset, RulesetAttr as _,
    RulesetCreatedAttr as _, RulesetError, RulesetStatus, Scope, make_bitflags, path_beneath_rules,
};

use super::grants::Grants;

/// The newest version of Landlock that this was tested with: its rights are all taken away, as far as
/// the kernel has them.
const KNOWN: ABI = ABI::V6;

/// Shuts this thread, and all that it will start, in; says what kinds of things are restricted, or why
/// nothing is.
pub(super) fn restrict(grants: &Grants) -> Result<Vec<&'static str>, String> {
    let status = ruleset(grants).map_err(|error| format!("this kernel's Landlock does not work: {error}"))?;
    let abi = match status.landlock {
        LandlockStatus::Available { effective_abi, .. } if status.ruleset != RulesetStatus::NotEnforced => {
            effective_abi
        }
        LandlockStatus::NotEnabled => {
            return Err(
                "this kernel has Landlock switched off (its parameter lsm= leaves it out)".to_owned(),
            );
        }
        _ => {
            let why = "there is no Landlock here (Linux before 5.13, or a container that forbids it)";
            return Err(why.to_owned());
        }
    };
    let mut kinds = vec!["files"];
    if abi >= ABI::V4 {
        kinds.push("ports");
    }
    if abi >= ABI::V6 {
        kinds.push("signals");
    }
    Ok(kinds)
}

fn ruleset(grants: &Grants) -> Result<landlock::RestrictionStatus, RulesetError> {
    let read = make_bitflags!(AccessFs::{ReadFile | ReadDir});
    let write = read
        | make_bitflags!(AccessFs::{
            WriteFile | Truncate | MakeReg | MakeDir | RemoveFile | RemoveDir | Refer
        });
    let log = make_bitflags!(AccessFs::{WriteFile | MakeReg});
    let mut ruleset = Ruleset::default()
        .handle_access(AccessFs::from_all(KNOWN))?
        // No port is ever listened on again.
        .handle_access(AccessNet::BindTcp)?;
    if grants.ports.is_some() {
        ruleset = ruleset.handle_access(AccessNet::ConnectTcp)?;
    }
    let ports = grants.ports.iter().flatten();
    ruleset
        .scope(scopes())?
        .create()?
        .add_rules(path_beneath_rules(&grants.read, read))?
        .add_rules(path_beneath_rules(&grants.write, write))?
        .add_rules(path_beneath_rules(&grants.log, log))?
        .add_rules(path_beneath_rules(["/dev/null"], read | AccessFs::WriteFile))?
        .add_rules(ports.map(|port| Ok::<_, RulesetError>(NetPort::new(*port, AccessNet::ConnectTcp))))?
        .restrict_self()
}

/// Signals to other programs, and abstract unix sockets, but where systemd wants to be told by one.
fn scopes() -> BitFlags<Scope> {
    let notify = std::env::var_os("NOTIFY_SOCKET");
    if notify.is_some_and(|name| name.as_encoded_bytes().starts_with(b"@")) {
        Scope::Signal.into()
    } else {
        Scope::from_all(KNOWN)
    }
}

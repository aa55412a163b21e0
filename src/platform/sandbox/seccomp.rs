//! seccomp: denies system calls that a running daemon never makes and an attacker would.
//!
//! A list of what is denied, not of what is allowed: a daemon must survive a system call that a newer C library makes
//! in place of an older one. Denied calls fail with EPERM. Only calls by the numbers of another architecture kill.

use std::collections::BTreeMap;

use libc::{c_int, c_long};
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

/// Denied whatever the arguments.
const DENIED: &[c_long] = &[
    // Running programs, and access to other programs' memory.
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    // File systems, and ways around paths.
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_open_by_handle_at,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_fanotify_init,
    // Namespaces.
    libc::SYS_setns,
    libc::SYS_unshare,
    // The kernel itself, and interfaces known for its bugs.
    libc::SYS_kexec_load,
    KEXEC_FILE_LOAD,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_personality,
    // The machine.
    libc::SYS_reboot,
    libc::SYS_acct,
    libc::SYS_syslog,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_iopl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ioperm,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_modify_ldt,
];

/// libc lacks it for aarch64 with musl.
const KEXEC_FILE_LOAD: c_long = if cfg!(target_arch = "x86_64") { 320 } else { 294 };

/// The namespaces that `clone` can create; threads and child processes are created without.
const NAMESPACES: [c_int; 7] = [
    libc::CLONE_NEWNS,
    libc::CLONE_NEWCGROUP,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWNET,
];

/// The only allowed families of sockets. Of netlink only the routing table, which name resolution reads.
const FAMILIES: [c_int; 4] = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK];

/// Numbers with this bit mean the same calls, on x86_64 kernels with x32.
const X32: c_long = 0x4000_0000;

/// Calls of x32 with numbers of their own, from execve to preadv2; some run programs. No 64-bit program makes them.
const X32_ONLY: std::ops::RangeInclusive<c_long> = 512..=547;

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// Restricts this thread and all that it will start. Returns why it does not.
pub(super) fn restrict() -> Result<String, String> {
    let Ok(architecture) = TargetArch::try_from(std::env::consts::ARCH) else {
        return Err("there is no seccomp filter for this processor".to_owned());
    };
    // The flags of clone3 are in memory, where a filter cannot see them. Without it C libraries use `clone`.
    let clone3 = Rules::from([(libc::SYS_clone3, Vec::new())]);
    for (rules, errno) in [(denied(), libc::EPERM), (Ok(clone3), libc::ENOSYS)] {
        let filter = rules.and_then(|rules| compile(rules, errno, architecture));
        let filter = filter.map_err(|error| format!("the seccomp filter cannot be built: {error}"))?;
        seccompiler::apply_filter(&filter)
            .map_err(|error| format!("this kernel accepts no seccomp filter: {error}"))?;
    }
    Ok("seccomp".to_owned())
}

fn compile(rules: Rules, errno: c_int, architecture: TargetArch) -> Result<BpfProgram, BackendError> {
    let deny = SeccompAction::Errno(errno.unsigned_abs());
    SeccompFilter::new(rules, SeccompAction::Allow, deny, architecture)?.try_into()
}

fn denied() -> Result<Rules, BackendError> {
    let mut rules: Rules = DENIED.iter().map(|call| (*call, Vec::new())).collect();
    rules.insert(libc::SYS_clone, namespaces()?);
    rules.insert(libc::SYS_socket, families()?);
    if cfg!(target_arch = "x86_64") {
        let same = rules.clone().into_iter().map(|(call, rules)| (call | X32, rules));
        rules.extend(same);
        rules.extend(X32_ONLY.map(|call| (call | X32, Vec::new())));
    }
    Ok(rules)
}

fn namespaces() -> Result<Vec<SeccompRule>, BackendError> {
    let rule = |flag: c_int| {
        let mask = SeccompCmpOp::MaskedEq(u64::from(flag.unsigned_abs()));
        SeccompRule::new(vec![argument(0, mask, flag)?])
    };
    NAMESPACES.into_iter().map(rule).collect()
}

fn families() -> Result<Vec<SeccompRule>, BackendError> {
    let others = FAMILIES.map(|family| argument(0, SeccompCmpOp::Ne, family));
    let other_netlink = [
        argument(0, SeccompCmpOp::Eq, libc::AF_NETLINK),
        argument(2, SeccompCmpOp::Ne, libc::NETLINK_ROUTE),
    ];
    let rule = |conditions: Vec<_>| SeccompRule::new(conditions.into_iter().collect::<Result<_, _>>()?);
    Ok(vec![rule(others.into())?, rule(other_netlink.into())?])
}

/// A condition on an argument that is an `int`, whose upper half is undefined.
fn argument(number: u8, op: SeccompCmpOp, value: c_int) -> Result<SeccompCondition, BackendError> {
    let value = u64::from(value.unsigned_abs());
    SeccompCondition::new(number, SeccompCmpArgLen::Dword, op, value)
}

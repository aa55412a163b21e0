//! seccomp: system calls that a running daemon never makes, and an intruder would.
//!
//! This is a list of what is denied and not of what is allowed: a daemon must not die of a system call
//! that a newer C library makes in place of an older one. Denied calls fail with EPERM; nothing is killed,
//! but for calls by the numbers of another architecture.

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub(super) use self::filters::restrict;

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
pub(super) fn restrict() -> Result<(), String> {
    Err("bondgate has no seccomp filter for this kind of processor".to_owned())
}

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod filters {
    use std::collections::BTreeMap;

    use libc::c_long;
    use seccompiler::{
        BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
        SeccompFilter, SeccompRule, TargetArch,
    };

    #[cfg(target_arch = "x86_64")]
    const ARCH: TargetArch = TargetArch::x86_64;
    #[cfg(target_arch = "aarch64")]
    const ARCH: TargetArch = TargetArch::aarch64;

    /// Never made, whatever the arguments.
    const DENIED: &[c_long] = &[
        // Other programs, and other programs' memory.
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
        // The kernel itself, and what its bugs are reached by.
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

    /// libc does not name it on every target.
    const KEXEC_FILE_LOAD: c_long = if cfg!(target_arch = "x86_64") { 320 } else { 294 };

    /// The namespaces that `clone` can make; threads and plain children are made without.
    const NAMESPACES: &[libc::c_int] = &[
        libc::CLONE_NEWNS,
        libc::CLONE_NEWCGROUP,
        libc::CLONE_NEWUTS,
        libc::CLONE_NEWIPC,
        libc::CLONE_NEWUSER,
        libc::CLONE_NEWPID,
        libc::CLONE_NEWNET,
    ];

    /// Sockets of these families alone, and of netlink the routing table, which name resolution asks.
    const FAMILIES: &[libc::c_int] = &[libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK];

    /// Numbers with this bit mean the same calls (x32), on kernels that have them.
    #[cfg(target_arch = "x86_64")]
    const X32: c_long = 0x4000_0000;

    /// Calls of x32 with numbers of their own, among them those that run programs: execve to preadv2's
    /// end. No program of 64 bits makes any of them.
    #[cfg(target_arch = "x86_64")]
    const X32_ALONE: std::ops::RangeInclusive<c_long> = 512..=547;

    type Rules = BTreeMap<i64, Vec<SeccompRule>>;

    /// Shuts this thread, and all that it will start, in.
    pub(in crate::sandbox) fn restrict() -> Result<(), String> {
        let filters = [
            compiled(denied(), libc::EPERM),
            // Its flags are out of a filter's sight. Where it is not there, C libraries use `clone`, as they
            // do on older kernels and in most containers.
            compiled(Ok(Rules::from([(libc::SYS_clone3, Vec::new())])), libc::ENOSYS),
        ];
        for filter in filters {
            let filter = filter.map_err(|error| format!("the seccomp filter cannot be made: {error}"))?;
            seccompiler::apply_filter(&filter)
                .map_err(|error| format!("this kernel takes no seccomp filter ({error})"))?;
        }
        Ok(())
    }

    fn compiled(rules: Result<Rules, BackendError>, error: libc::c_int) -> Result<BpfProgram, BackendError> {
        let error = SeccompAction::Errno(error.unsigned_abs());
        SeccompFilter::new(rules?, SeccompAction::Allow, error, ARCH)?.try_into()
    }

    fn denied() -> Result<Rules, BackendError> {
        let mut rules: Rules = DENIED.iter().map(|call| (*call, Vec::new())).collect();
        rules.insert(libc::SYS_clone, namespaces()?);
        rules.insert(libc::SYS_socket, families()?);
        #[cfg(target_arch = "x86_64")]
        {
            let same: Vec<_> = rules
                .iter()
                .map(|(call, rules)| (call | X32, rules.clone()))
                .collect();
            rules.extend(same);
            rules.extend(X32_ALONE.map(|call| (call | X32, Vec::new())));
        }
        Ok(rules)
    }

    fn namespaces() -> Result<Vec<SeccompRule>, BackendError> {
        let rule = |flag: &libc::c_int| {
            let flag = u64::from(flag.unsigned_abs());
            SeccompRule::new(vec![is(0, SeccompCmpOp::MaskedEq(flag), flag)?])
        };
        NAMESPACES.iter().map(rule).collect()
    }

    fn families() -> Result<Vec<SeccompRule>, BackendError> {
        let family = |op, family: libc::c_int| is(0, op, u64::from(family.unsigned_abs()));
        let none_of_them: Result<Vec<_>, _> = FAMILIES
            .iter()
            .map(|known| family(SeccompCmpOp::Ne, *known))
            .collect();
        let route = u64::from(libc::NETLINK_ROUTE.unsigned_abs());
        let other_netlink = vec![
            family(SeccompCmpOp::Eq, libc::AF_NETLINK)?,
            is(2, SeccompCmpOp::Ne, route)?,
        ];
        Ok(vec![
            SeccompRule::new(none_of_them?)?,
            SeccompRule::new(other_netlink)?,
        ])
    }

    /// The arguments looked at here are `int`s, whose upper half is anything.
    fn is(argument: u8, op: SeccompCmpOp, value: u64) -> Result<SeccompCondition, BackendError> {
        SeccompCondition::new(argument, SeccompCmpArgLen::Dword, op, value)
    }
}

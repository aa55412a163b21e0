//! Who else on this machine may read or write a file that holds a secret.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use rustix::fs::{StatVfsMountFlags, statvfs};

/// What the file system lets other users do with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exposure {
    /// Replace what is in it: then the secret is theirs.
    Written,
    /// Read it.
    Read,
}

const READ_BY_OTHERS: u32 = 0o004;
const WRITTEN_BY_OTHERS: u32 = 0o002;

impl Exposure {
    /// What others may do with a file; nothing where that is in order, the file is not there (yet), or
    /// its mount is read-only, as Kubernetes and Docker mount secrets, readable by all as a rule.
    pub(super) fn of(path: &Path) -> Option<Self> {
        let mode = std::fs::metadata(path).ok()?.permissions().mode();
        let found = if mode & WRITTEN_BY_OTHERS != 0 {
            Self::Written
        } else if mode & READ_BY_OTHERS != 0 {
            Self::Read
        } else {
            return None;
        };
        let mount = statvfs(path).ok();
        let is_read_only = mount.is_some_and(|mount| mount.f_flag.contains(StatVfsMountFlags::RDONLY));
        (!is_read_only).then_some(found)
    }
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;

    use super::*;

    #[test]
    fn others_are_those_beside_owner_and_group() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for (mode, exposure) in [
            (0o600, None),
            (0o640, None),
            (0o660, None),
            (0o644, Some(Exposure::Read)),
            (0o646, Some(Exposure::Written)),
            (0o622, Some(Exposure::Written)),
        ] {
            std::fs::set_permissions(file.path(), Permissions::from_mode(mode)).unwrap();
            assert_eq!(Exposure::of(file.path()), exposure, "{mode:o}");
        }
    }

    #[test]
    fn a_file_that_is_not_there_is_not_exposed() {
        assert_eq!(Exposure::of(Path::new("/nowhere/at/all")), None);
    }
}

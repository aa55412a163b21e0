//! The access that a file system grants to other users of this machine.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use rustix::fs::{StatVfsMountFlags, statvfs};

/// What every user of this machine may do with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exposure {
    /// Replace its content.
    Writable,
    /// Read it.
    Readable,
}

const WRITABLE_BY_OTHERS: u32 = 0o002;
const READABLE_BY_OTHERS: u32 = 0o004;

/// The access that users other than the owner and its group have. `None` if they have none, if the file does
/// not exist, or if its mount is read-only: Kubernetes and Docker mount secrets that way, readable by all.
#[must_use]
pub fn exposure(path: &Path) -> Option<Exposure> {
    let mode = std::fs::metadata(path).ok()?.permissions().mode();
    let exposure = if mode & WRITABLE_BY_OTHERS != 0 {
        Exposure::Writable
    } else if mode & READABLE_BY_OTHERS != 0 {
        Exposure::Readable
    } else {
        return None;
    };
    let mount = statvfs(path).ok();
    let is_read_only = mount.is_some_and(|mount| mount.f_flag.contains(StatVfsMountFlags::RDONLY));
    (!is_read_only).then_some(exposure)
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;

    use super::*;

    #[test]
    fn a_file_is_exposed_by_the_mode_bits_of_other_users() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for (mode, expected) in [
            (0o600, None),
            (0o640, None),
            (0o660, None),
            (0o644, Some(Exposure::Readable)),
            (0o646, Some(Exposure::Writable)),
            (0o622, Some(Exposure::Writable)),
        ] {
            std::fs::set_permissions(file.path(), Permissions::from_mode(mode)).unwrap();
            assert_eq!(exposure(file.path()), expected, "{mode:o}");
        }
    }

    #[test]
    fn a_file_that_does_not_exist_is_not_exposed() {
        assert_eq!(exposure(Path::new("/nowhere/at/all")), None);
    }
}

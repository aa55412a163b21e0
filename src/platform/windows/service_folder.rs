//! The folders of the service: every user of the machine may create them in ProgramData before bondgate is installed.

use std::fs;
use std::io;
use std::os::windows::fs::MetadataExt as _;
use std::path::Path;

use windows_sys::Win32::Storage::FileSystem::FILE_ATTRIBUTE_REPARSE_POINT;

use super::access_control::{create_directory, create_private_directory, set_private};
use super::account::Account;
use super::locations;
use super::privacy::{is_private, is_trusted};
use super::processes::is_administrator;
use super::security_descriptor::SecurityDescriptor;

/// Creates the directory of a configuration, and those above it, unless it exists. The service's is [claimed](claim).
pub fn create_configuration_directory(path: &Path) -> io::Result<()> {
    let of_service = locations::configuration();
    let is_of_service = path.as_os_str().eq_ignore_ascii_case(of_service.as_os_str());
    if is_of_service && is_administrator() {
        claim(path)
    } else {
        create_private_directory(path)
    }
}

/// Creates a folder for SYSTEM and the administrators alone. One that exists is made as private, unless it is. An error if it, or
/// something in it, is a link or belongs to an account that is not trusted: an owner may always change the permissions.
pub(super) fn claim(folder: &Path) -> io::Result<()> {
    let describe = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", folder.display()));
    // Without this user: another administrator's programs would not take the folder for private.
    let descriptor = SecurityDescriptor::private(None, "OICI")?;
    match create_directory(folder, &descriptor) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        created => return created.map_err(describe),
    }
    check(folder, folder)?;
    if !is_private(folder) {
        set_private(folder, &descriptor).map_err(describe)?;
    }
    // No other account can add something now.
    for entry in fs::read_dir(folder).map_err(describe)? {
        check(&entry?.path(), folder)?;
    }
    Ok(())
}

/// Checks a folder, or what is directly in it.
fn check(path: &Path, folder: &Path) -> io::Result<()> {
    let attributes = path.symlink_metadata()?.file_attributes();
    let descriptor = SecurityDescriptor::of(path)?;
    let why = refusal(attributes, descriptor.owner().as_ref())?;
    why.map_or(Ok(()), |why| {
        let (path, folder) = (path.display(), folder.display());
        let text = format!(
            "{path} {why}: remove it; or, if its content is yours, take over the folder with `takeown /F \"{folder}\" /A /R` and \
             `icacls \"{folder}\" /reset /T`"
        );
        Err(io::Error::new(io::ErrorKind::PermissionDenied, text))
    })
}

/// Why a file or folder is refused, if it is.
fn refusal(attributes: u32, owner: Option<&Account>) -> io::Result<Option<String>> {
    if attributes & FILE_ATTRIBUTE_REPARSE_POINT != 0 {
        return Ok(Some("leads to another place".to_owned()));
    }
    Ok(match owner {
        None => Some("has no owner".to_owned()),
        Some(owner) if is_trusted(owner)? => None,
        Some(owner) => Some(format!(
            "belongs to {}, who may change its permissions",
            owner.name()
        )),
    })
}

#[cfg(test)]
mod tests {
    use super::super::access_control::{Access, grant};
    use super::super::exposure::is_writable_by_others;
    use super::*;

    #[test]
    fn a_folder_is_created_for_system_and_the_administrators() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("folder");
        claim(&folder).unwrap();
        claim(&folder).unwrap();
        assert!(is_private(&folder));
    }

    #[test]
    fn a_folder_that_everyone_may_use_is_made_private() {
        let parent = tempfile::tempdir().unwrap();
        // Wine lets a folder inherit in any case: from a private one, here.
        let outer = parent.path().join("outer");
        claim(&outer).unwrap();
        let folder = outer.join("folder");
        fs::create_dir(&folder).unwrap();
        let everyone = Account::named("Everyone").unwrap();
        grant(&folder, &everyone, Access::Modify).unwrap();
        assert!(is_writable_by_others(&folder));
        claim(&folder).unwrap();
        assert!(is_private(&folder));
    }

    #[test]
    fn a_file_in_place_of_the_folder_is_an_error() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("file");
        fs::write(&path, "x").unwrap();
        assert!(claim(&path).is_err());
    }

    #[test]
    fn links_and_the_property_of_other_users_are_refused() {
        let refused = |attributes, owner: Option<&str>| {
            let owner = owner.map(|name| Account::named(name).unwrap());
            refusal(attributes, owner.as_ref()).unwrap()
        };
        let trusted = Some(r"NT AUTHORITY\SYSTEM");
        assert_eq!(refused(0, trusted), None);
        assert!(refused(FILE_ATTRIBUTE_REPARSE_POINT, trusted).is_some());
        assert!(refused(0, None).is_some());
        let why = refused(0, Some("Everyone")).unwrap();
        assert!(why.contains("Everyone (S-1-1-0)"), "{why}");
    }
}

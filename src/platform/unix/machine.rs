//! What a support case needs to know of a machine and its limits. What the system does not show is left out.

use std::fs;
use std::io;
use std::path::Path;

use rustix::fs::statvfs;
use rustix::process::{Resource, getegid, geteuid, getrlimit};

use super::files;

/// A name and a value.
type Fact = (String, String);

/// The machine, the user of this process, and its limits.
#[must_use]
pub fn facts() -> Vec<Fact> {
    let read = |path: &str| Some(fs::read_to_string(path).ok()?.trim().to_owned());
    let kernel = || {
        let parts = ["ostype", "osrelease", "version"];
        let parts = parts.map(|part| read(&format!("/proc/sys/kernel/{part}")));
        Some(parts.into_iter().collect::<Option<Vec<_>>>()?.join(" "))
    };
    let limit = getrlimit(Resource::Nofile);
    let shown = |limit: Option<u64>| limit.map_or("unlimited".to_owned(), |limit| limit.to_string());
    let found = [
        ("operating system", operating_system()),
        ("kernel", kernel()),
        ("processor", Some(processors())),
        ("host name", files::host_name()),
        ("user of this command", Some(user())),
        ("container", Some(container())),
        (
            "systemd",
            Some(yes_or_no(Path::new("/run/systemd/system").exists())),
        ),
        ("memory", memory()),
        ("load", read("/proc/loadavg")),
        (
            "uptime in seconds",
            read("/proc/uptime").map(|text| first_word(&text)),
        ),
        (
            "time zone",
            fs::read_link("/etc/localtime")
                .ok()
                .map(|zone| zone.display().to_string()),
        ),
        ("clock", synchronized()),
        (
            "open files of this command, soft and hard limit",
            Some(format!("{}, {}", shown(limit.current), shown(limit.maximum))),
        ),
    ];
    let found = found.into_iter();
    let facts = found.filter_map(|(name, value)| Some((name.to_owned(), value?)));
    facts.chain(control_group("self", "this command")).collect()
}

/// The limits of another process.
#[must_use]
pub fn facts_of_process(id: u32) -> Vec<Fact> {
    let limits = fs::read_to_string(format!("/proc/{id}/limits")).unwrap_or_default();
    let open_files = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"));
    let open_files = open_files.map(|rest| {
        let limits: Vec<_> = rest.split_whitespace().take(2).collect();
        (
            "open files of the daemon, soft and hard limit".to_owned(),
            limits.join(", "),
        )
    });
    let user = fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
    let user = user.lines().find_map(|line| line.strip_prefix("Uid:"));
    let user = user.and_then(|ids| ids.split_whitespace().nth(1));
    let user = user.map(|id| ("user of the daemon".to_owned(), named("/etc/passwd", id)));
    let facts = user.into_iter().chain(open_files);
    facts
        .chain(control_group(&id.to_string(), "the daemon"))
        .collect()
}

/// The free and the whole space of the disk that holds a directory, in bytes.
pub fn disk_space(directory: &Path) -> io::Result<(u64, u64)> {
    let space = statvfs(directory)?;
    Ok((space.f_bavail * space.f_frsize, space.f_blocks * space.f_frsize))
}

fn operating_system() -> Option<String> {
    let files = ["/etc/os-release", "/usr/lib/os-release"];
    let text = files.iter().find_map(|file| fs::read_to_string(file).ok())?;
    let name = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="))?;
    Some(name.trim_matches('"').to_owned())
}

fn processors() -> String {
    let count = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    format!("{}, {count} usable", std::env::consts::ARCH)
}

fn user() -> String {
    let (user, group) = (geteuid().as_raw().to_string(), getegid().as_raw().to_string());
    format!(
        "{}, group {}",
        named("/etc/passwd", &user),
        named("/etc/group", &group)
    )
}

/// An id with its name in a file like /etc/passwd.
fn named(file: &str, id: &str) -> String {
    let text = fs::read_to_string(file).unwrap_or_default();
    let mut entries = text.lines().map(|line| line.split(':').collect::<Vec<_>>());
    match entries.find(|entry| entry.get(2) == Some(&id)) {
        Some(entry) => format!("{id} ({})", entry[0]),
        None => id.to_owned(),
    }
}

fn container() -> String {
    let has_file = |path| Path::new(path).exists();
    let marks = [
        ("Docker", has_file("/.dockerenv")),
        ("Podman", has_file("/run/.containerenv")),
        // Set in every pod, also in one without service links and without a token of a service account.
        (
            "Kubernetes",
            std::env::var_os("KUBERNETES_SERVICE_HOST").is_some(),
        ),
    ];
    let found = marks.into_iter().filter(|(_, is_found)| *is_found);
    let found: Vec<_> = found.map(|(name, _)| name).collect();
    match &found[..] {
        [] => "no sign of one".to_owned(),
        names => names.join(", "),
    }
}

fn memory() -> Option<String> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let value = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        Some(line.trim_start_matches(':').trim().to_owned())
    };
    Some(format!(
        "{}, {} available",
        value("MemTotal")?,
        value("MemAvailable")?
    ))
}

/// What systemd-timesyncd says; other time services leave no such file.
fn synchronized() -> Option<String> {
    let mark = fs::metadata("/run/systemd/timesync/synchronized").ok()?;
    let at = humantime::format_rfc3339_seconds(mark.modified().ok()?);
    Some(format!("last synchronized by systemd-timesyncd at {at}"))
}

/// The limits of a process by its control group, version 2. Those of the groups above apply, too.
fn control_group(process: &str, of: &str) -> Vec<Fact> {
    let text = fs::read_to_string(format!("/proc/{process}/cgroup")).unwrap_or_default();
    let Some(group) = text.lines().find_map(|line| line.strip_prefix("0::/")) else {
        return Vec::new();
    };
    let directory = Path::new("/sys/fs/cgroup").join(group);
    let mut facts = vec![(format!("control group of {of}"), format!("/{group}"))];
    for name in [
        "memory.max",
        "memory.high",
        "memory.current",
        "cpu.max",
        "pids.max",
    ] {
        if let Ok(value) = fs::read_to_string(directory.join(name)) {
            facts.push((format!("{name} of {of}"), value.trim().to_owned()));
        }
    }
    facts
}

fn first_word(text: &str) -> String {
    text.split(' ').next().unwrap_or_default().to_owned()
}

fn yes_or_no(is_so: bool) -> String {
    if is_so { "yes" } else { "no" }.to_owned()
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::*;

    fn value<'a>(facts: &'a [Fact], name: &str) -> &'a str {
        let fact = facts.iter().find(|(found, _)| found == name);
        &fact.unwrap_or_else(|| panic!("{name}: {facts:?}")).1
    }

    #[test]
    fn linux_shows_its_kernel_its_memory_and_the_user() {
        let facts = facts();
        assert!(value(&facts, "kernel").starts_with("Linux "));
        assert!(value(&facts, "memory").contains(" kB, "));
        assert!(value(&facts, "user of this command").starts_with(&geteuid().as_raw().to_string()));
        assert!(value(&facts, "uptime in seconds").parse::<f64>().unwrap() > 0.0);
    }

    #[test]
    fn the_limits_of_another_process_are_shown() {
        let facts = facts_of_process(std::process::id());
        let limit = getrlimit(Resource::Nofile).current.unwrap().to_string();
        let shown = value(&facts, "open files of the daemon, soft and hard limit");
        assert_eq!(shown.split(',').next(), Some(&*limit));
        assert!(value(&facts, "user of the daemon").starts_with(&geteuid().as_raw().to_string()));
    }

    #[test]
    fn the_space_of_a_disk_is_shown() {
        let (free, all) = disk_space(Path::new("/")).unwrap();
        assert!(free <= all && all > 0);
        assert!(disk_space(Path::new("/nowhere/at/all")).is_err());
    }
}

//! The files that a configuration names.

use std::path::{Path, PathBuf};

use super::outbound_proxy::OutboundProxy;
use super::root::Config;
use super::secret::SecretSource;
use super::source::KeyPath;

/// A file that a configuration names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedFile {
    /// The key that names it.
    pub key: KeyPath,
    /// Its path.
    pub path: PathBuf,
}

impl NamedFile {
    /// Whether it is read for each token, and not once.
    pub(crate) fn is_credential(&self) -> bool {
        ["client_id", "client_secret"].contains(&self.key.name())
    }

    /// Whether it is a PEM file.
    pub(crate) fn is_pem(&self) -> bool {
        ["ca_file", "certificate_file", "client_ca_file", "key_file"].contains(&self.key.name())
    }

    /// Whether it holds a secret.
    pub(crate) fn is_secret(&self) -> bool {
        self.is_credential() || ["proxy", "keys", "key_file"].contains(&self.key.name())
    }
}

impl Config {
    /// Every file that a daemon with this configuration reads.
    pub(crate) fn files(&self) -> Vec<NamedFile> {
        let mut config = self.clone();
        let sources = config.sources_mut().into_iter();
        let mut files: Vec<_> = sources
            .filter_map(|(key, source)| {
                Some(NamedFile {
                    key,
                    path: source.path()?,
                })
            })
            .collect();
        let paths = config.paths_mut().into_iter();
        let read = paths.map(|(key, path)| NamedFile {
            key,
            path: path.clone(),
        });
        files.extend(read.filter(NamedFile::is_pem));
        files
    }

    /// The names of systemd's credentials that it needs.
    pub(crate) fn credentials(&self) -> Vec<String> {
        let mut config = self.clone();
        let sources = config.sources_mut().into_iter();
        let mut names: Vec<_> = sources
            .filter_map(|(_, source)| match source {
                SecretSource::Credential(name) => Some(name.clone()),
                _ => None,
            })
            .collect();
        names.sort();
        names.dedup();
        names
    }

    /// Reads each of systemd's credentials from a file in place of `$CREDENTIALS_DIRECTORY`.
    pub(crate) fn read_credentials_from(&mut self, file: impl Fn(&str) -> PathBuf) {
        for (_, source) in self.sources_mut() {
            if let SecretSource::Credential(name) = source {
                *source = SecretSource::File(file(name));
            }
        }
    }

    /// Makes each relative path that a key sets absolute, in the directory for its key.
    pub(super) fn anchor<'a>(&mut self, directory: impl Fn(&KeyPath) -> Option<&'a Path>) {
        let anchor = |key: &KeyPath, path: &mut PathBuf| {
            if let Some(directory) = directory(key) {
                *path = directory.join(&path);
            }
        };
        for (key, source) in self.sources_mut() {
            if let SecretSource::File(path) = source {
                anchor(&key.key("file"), path);
            }
        }
        for (key, path) in self.paths_mut() {
            anchor(&key, path);
        }
    }

    /// The sources of secrets, with their keys.
    fn sources_mut(&mut self) -> Vec<(KeyPath, &mut SecretSource)> {
        let mut sources = Vec::new();
        for upstream in &mut self.upstreams {
            let table = KeyPath::upstream(&upstream.name);
            sources.push((table.key("client_id"), &mut upstream.client_id));
            sources.push((table.key("client_secret"), &mut upstream.client_secret));
            if let OutboundProxy::Url(source) = &mut upstream.proxy {
                sources.push((table.key("proxy"), source));
            }
        }
        for (at, listener) in self.listeners.iter_mut().enumerate() {
            let keys = listener.keys.as_mut();
            sources.extend(keys.map(|keys| (KeyPath::listener(at).key("keys"), keys)));
        }
        sources
    }

    /// The other paths, with their keys.
    fn paths_mut(&mut self) -> Vec<(KeyPath, &mut PathBuf)> {
        let mut paths = vec![
            (KeyPath::from("log.file"), self.log.file.as_mut()),
            ("spool.directory".into(), self.spool.directory.as_mut()),
        ];
        for upstream in &mut self.upstreams {
            let key = KeyPath::upstream(&upstream.name).key("ca_file");
            paths.push((key, upstream.ca_file.as_mut()));
        }
        let listeners = self.listeners.iter_mut().enumerate();
        let tls = listeners.map(|(at, listener)| (KeyPath::listener(at).key("tls"), &mut listener.tls));
        for (table, tls) in tls.chain([("admin.tls".into(), &mut self.admin.tls)]) {
            let Some(tls) = tls else { continue };
            paths.push((table.key("certificate_file"), Some(&mut tls.certificate_file)));
            paths.push((table.key("key_file"), Some(&mut tls.key_file)));
            paths.push((table.key("client_ca_file"), tls.client_ca_file.as_mut()));
        }
        let set = paths.into_iter().filter_map(|(key, path)| Some((key, path?)));
        set.collect()
    }
}

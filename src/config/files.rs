//! The files that a configuration names.

use std::path::PathBuf;

use super::listener::ServerTls;
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
    /// Every path that a key sets, of files that are read and of those that are written.
    pub(super) fn paths_mut(&mut self) -> Vec<(KeyPath, &mut PathBuf)> {
        let mut paths = Vec::new();
        for upstream in &mut self.upstreams {
            let table = KeyPath::upstream(&upstream.name);
            let proxy = match &mut upstream.proxy {
                OutboundProxy::Url(source) => Some(source),
                OutboundProxy::Direct | OutboundProxy::Environment => None,
            };
            let id = (table.key("client_id"), Some(&mut upstream.client_id));
            let secret = (table.key("client_secret"), Some(&mut upstream.client_secret));
            add_sources(&mut paths, [id, secret, (table.key("proxy"), proxy)]);
            paths.extend(upstream.ca_file.as_mut().map(|path| (table.key("ca_file"), path)));
        }
        for (at, listener) in self.listeners.iter_mut().enumerate() {
            let table = KeyPath::listener(at);
            add_sources(&mut paths, [(table.key("keys"), listener.keys.as_mut())]);
            add_tls(&mut paths, &table.key("tls"), listener.tls.as_mut());
        }
        add_tls(&mut paths, &"admin.tls".into(), self.admin.tls.as_mut());
        paths.extend(self.log.file.as_mut().map(|path| ("log.file".into(), path)));
        paths.extend(
            self.spool
                .directory
                .as_mut()
                .map(|path| ("spool.directory".into(), path)),
        );
        paths
    }

    /// Every file that a daemon with this configuration reads.
    pub(crate) fn files(&self) -> Vec<NamedFile> {
        let mut files = Vec::new();
        let mut add = |key: KeyPath, path: Option<PathBuf>| {
            files.extend(path.map(|path| NamedFile { key, path }));
        };
        for upstream in &self.upstreams {
            let table = KeyPath::upstream(&upstream.name);
            add(table.key("client_id"), upstream.client_id.path());
            add(table.key("client_secret"), upstream.client_secret.path());
            add(table.key("proxy"), upstream.proxy.path());
            add(table.key("ca_file"), upstream.ca_file.clone());
        }
        let mut tls = vec![(KeyPath::from("admin.tls"), &self.admin.tls)];
        for (at, listener) in self.listeners.iter().enumerate() {
            let keys = listener.keys.as_ref();
            add(
                KeyPath::listener(at).key("keys"),
                keys.and_then(SecretSource::path),
            );
            tls.push((KeyPath::listener(at).key("tls"), &listener.tls));
        }
        for (table, tls) in tls
            .into_iter()
            .filter_map(|(table, tls)| Some((table, tls.as_ref()?)))
        {
            add(table.key("certificate_file"), Some(tls.certificate_file.clone()));
            add(table.key("key_file"), Some(tls.key_file.clone()));
            add(table.key("client_ca_file"), tls.client_ca_file.clone());
        }
        files
    }
}

fn add_sources<'a, const N: usize>(
    paths: &mut Vec<(KeyPath, &'a mut PathBuf)>,
    sources: [(KeyPath, Option<&'a mut SecretSource>); N],
) {
    for (key, source) in sources {
        if let Some(SecretSource::File(path)) = source {
            paths.push((key.key("file"), path));
        }
    }
}

fn add_tls<'a>(paths: &mut Vec<(KeyPath, &'a mut PathBuf)>, table: &KeyPath, tls: Option<&'a mut ServerTls>) {
    let Some(tls) = tls else { return };
    paths.push((table.key("certificate_file"), &mut tls.certificate_file));
    paths.push((table.key("key_file"), &mut tls.key_file));
    paths.extend(
        tls.client_ca_file
            .as_mut()
            .map(|path| (table.key("client_ca_file"), path)),
    );
}

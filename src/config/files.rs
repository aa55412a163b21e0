//! The files beside its own that a configuration names.

use std::path::PathBuf;

use super::{Config, SecretSource, ServerTls};

/// A file that a configuration names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedFile {
    /// The key that names it, dotted.
    pub key: String,
    /// Where it is.
    pub path: PathBuf,
    /// Whether it is read for each token, and not once for all.
    pub is_credential: bool,
}

impl Config {
    /// Every file that is read while a daemon of this configuration runs.
    #[must_use]
    pub fn files(&self) -> Vec<NamedFile> {
        let mut files = Vec::new();
        for upstream in &self.upstreams {
            let mut add = |key: &str, path: Option<PathBuf>, is_credential| {
                files.extend(path.map(|path| NamedFile {
                    key: format!("upstream.{}.{key}", upstream.name),
                    path,
                    is_credential,
                }));
            };
            add("client_id", upstream.client_id.path(), true);
            add("client_secret", upstream.client_secret.path(), true);
            add("proxy", upstream.proxy.path(), false);
            add("ca_file", upstream.ca_file.clone(), false);
        }
        for (at, listener) in self.listeners.iter().enumerate() {
            let access = &listener.access;
            files.extend(
                access
                    .keys
                    .as_ref()
                    .and_then(SecretSource::path)
                    .map(|path| NamedFile {
                        key: format!("listener[{at}].keys"),
                        path,
                        is_credential: false,
                    }),
            );
            files.extend(tls_files(&format!("listener[{at}]"), access.tls.as_ref()));
        }
        files.extend(tls_files("admin", self.admin.tls.as_ref()));
        files
    }
}

impl ServerTls {
    /// Its files, by the names of their keys.
    pub fn files(&self) -> impl Iterator<Item = (&'static str, &PathBuf)> {
        let client_ca_file = self.client_ca_file.iter().map(|path| ("client_ca_file", path));
        [
            ("certificate_file", &self.certificate_file),
            ("key_file", &self.key_file),
        ]
        .into_iter()
        .chain(client_ca_file)
    }
}

fn tls_files(section: &str, tls: Option<&ServerTls>) -> Vec<NamedFile> {
    let file = |(key, path): (&str, &PathBuf)| NamedFile {
        key: format!("{section}.tls.{key}"),
        path: path.clone(),
        is_credential: false,
    };
    tls.into_iter().flat_map(ServerTls::files).map(file).collect()
}

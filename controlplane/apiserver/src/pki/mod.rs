//! The cluster's certificates and keys: made at the first start, reused and renewed afterwards.
//!
//! Owns: a folder with the certificate authority, the servers' and clients' certificates and the
//! key that signs service-account tokens. Must not know: who is allowed what. A newcomer's trap:
//! the token key is no certificate key, and losing `ca.key` only means no more certificates, but
//! losing `sa.key` makes every token in the cluster invalid.

mod files;
mod issue;
mod kubeconfig;

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use rcgen::KeyPair;

pub use files::write_private;
pub use issue::KeyCert;
use issue::{Authority, Usage, Wanted};

/// Where the API server keeps the files, as they are named by kubeadm.
const CA: &str = "ca";
const SERVING: &str = "apiserver";
const KUBELET_CLIENT: &str = "apiserver-kubelet-client";

/// Why the folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// A file cannot be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file is there but is not what it should be.
    #[error("{}: {why}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A certificate cannot be made from the given names.
    #[error("certificate for {name}: {why}")]
    Issue {
        /// Whose.
        name: String,
        /// What is wrong.
        why: String,
    },
}

/// What the certificates must say.
#[derive(Clone, Debug)]
pub struct PkiOptions {
    /// The address other machines reach the API server at.
    pub advertise_address: IpAddr,
    /// The API server's port.
    pub port: u16,
    /// The cluster address of the service `kubernetes`.
    pub service_address: IpAddr,
    /// This machine's host name.
    pub hostname: String,
    /// The cluster's DNS domain.
    pub cluster_domain: String,
    /// More names or addresses for the serving certificate.
    pub extra_names: Vec<String>,
}

impl Default for PkiOptions {
    fn default() -> Self {
        Self {
            advertise_address: IpAddr::from([127, 0, 0, 1]),
            port: 6443,
            service_address: IpAddr::from([10, 96, 0, 1]),
            hostname: "localhost".into(),
            cluster_domain: "cluster.local".into(),
            extra_names: Vec::new(),
        }
    }
}

/// The certificates and keys of one folder.
#[derive(Debug)]
pub struct Pki {
    dir: PathBuf,
    options: PkiOptions,
    authority: Authority,
    serving: KeyCert,
    kubelet_client: KeyCert,
    token_key_pem: String,
    token_key_der: Vec<u8>,
}

impl Pki {
    /// Opens the folder; what is missing or about to expire is made. Two processes may do this at
    /// the same time.
    pub fn ensure(dir: &Path, options: &PkiOptions) -> Result<Self, PkiError> {
        files::create_folder(dir)?;
        let _lock = files::lock(dir)?;
        let authority = Authority::ensure(dir, CA, "kubernetes")?;
        let serving = authority.ensure_pair(dir, SERVING, &serving_wanted(options))?;
        let client = Wanted {
            common_name: "kube-apiserver-kubelet-client".into(),
            organization: Some("kubeadm:cluster-admins".into()),
            names: Vec::new(),
            usage: Usage::Client,
        };
        let kubelet_client = authority.ensure_pair(dir, KUBELET_CLIENT, &client)?;
        let (token_key_pem, token_key_der) = ensure_token_key(dir)?;
        let (dir, options) = (dir.to_owned(), options.clone());
        Ok(Self { dir, options, authority, serving, kubelet_client, token_key_pem, token_key_der })
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The certificate authority's certificate in PEM.
    pub fn ca_pem(&self) -> &str {
        self.authority.cert_pem()
    }

    /// The API server's own certificate and key.
    pub fn serving(&self) -> &KeyCert {
        &self.serving
    }

    /// What the API server shows node agents.
    pub fn kubelet_client(&self) -> &KeyCert {
        &self.kubelet_client
    }

    /// The key that signs service-account tokens, PKCS#8 in DER, for ES256.
    pub fn token_key_der(&self) -> &[u8] {
        &self.token_key_der
    }

    /// The same in PEM.
    pub fn token_key_pem(&self) -> &str {
        &self.token_key_pem
    }

    /// A client certificate for `user`, made once and kept. At most one group fits in it.
    pub fn client(&self, user: &str, group: Option<&str>) -> Result<KeyCert, PkiError> {
        let _lock = files::lock(&self.dir)?;
        let wanted = Wanted {
            common_name: user.into(),
            organization: group.map(Into::into),
            names: Vec::new(),
            usage: Usage::Client,
        };
        self.authority.ensure_pair(&self.dir, &files::stem_of("client", user), &wanted)
    }

    /// The serving certificate of a node agent, for its name and addresses.
    pub fn node_serving(&self, node: &str, addresses: &[IpAddr]) -> Result<KeyCert, PkiError> {
        let _lock = files::lock(&self.dir)?;
        let mut names = vec![node.to_owned()];
        names.extend(addresses.iter().map(ToString::to_string));
        let wanted = Wanted {
            common_name: format!("system:node:{node}"),
            organization: Some("system:nodes".into()),
            names,
            usage: Usage::Server,
        };
        self.authority.ensure_pair(&self.dir, &files::stem_of("kubelet", node), &wanted)
    }

    /// The kubeconfig of the cluster's administrator (`kubernetes-admin` of `system:masters`).
    pub fn admin_kubeconfig(&self) -> Result<String, PkiError> {
        self.component_kubeconfig("kubernetes-admin", Some("system:masters"))
    }

    /// The kubeconfig of a component such as `system:kube-scheduler`.
    pub fn component_kubeconfig(
        &self,
        user: &str,
        group: Option<&str>,
    ) -> Result<String, PkiError> {
        let client = self.client(user, group)?;
        Ok(kubeconfig::render(&self.server_url(), self.ca_pem(), user, &client))
    }

    /// The kubeconfig of the agent of `node`.
    pub fn node_kubeconfig(&self, node: &str) -> Result<String, PkiError> {
        self.component_kubeconfig(&format!("system:node:{node}"), Some("system:nodes"))
    }

    /// Where clients reach the API server.
    pub fn server_url(&self) -> String {
        let address = std::net::SocketAddr::new(self.options.advertise_address, self.options.port);
        format!("https://{address}")
    }
}

fn serving_wanted(options: &PkiOptions) -> Wanted {
    let mut names: Vec<String> =
        ["kubernetes", "kubernetes.default", "kubernetes.default.svc"].map(Into::into).to_vec();
    names.push(format!("kubernetes.default.svc.{}", options.cluster_domain));
    names.extend(["localhost".to_owned(), options.hostname.clone(), "127.0.0.1".to_owned()]);
    names.push(options.service_address.to_string());
    names.push(options.advertise_address.to_string());
    names.extend(options.extra_names.iter().cloned());
    names.sort_unstable();
    names.dedup();
    Wanted { common_name: "kube-apiserver".into(), organization: None, names, usage: Usage::Server }
}

fn ensure_token_key(dir: &Path) -> Result<(String, Vec<u8>), PkiError> {
    let path = dir.join("sa.key");
    let key = match files::read(&path)? {
        Some(pem) => KeyPair::from_pem(&pem)
            .map_err(|error| PkiError::Content { path, why: error.to_string() })?,
        None => {
            let key = issue::new_key("service accounts")?;
            files::write_private(&path, key.serialize_pem().as_bytes())?;
            files::write_private(&dir.join("sa.pub"), key.public_key_pem().as_bytes())?;
            key
        }
    };
    Ok((key.serialize_pem(), key.serialize_der()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn options() -> PkiOptions {
        PkiOptions { advertise_address: IpAddr::from([192, 0, 2, 1]), ..PkiOptions::default() }
    }

    #[test]
    fn a_second_start_reuses_everything() {
        let dir = tempfile::tempdir().unwrap();
        let first = Pki::ensure(dir.path(), &options()).unwrap();
        let admin = first.admin_kubeconfig().unwrap();
        let second = Pki::ensure(dir.path(), &options()).unwrap();
        assert_eq!(first.ca_pem(), second.ca_pem());
        assert_eq!(first.serving().cert_pem, second.serving().cert_pem);
        assert_eq!(first.token_key_der(), second.token_key_der());
        assert_eq!(admin, second.admin_kubeconfig().unwrap());
    }

    #[test]
    fn a_new_address_renews_the_serving_certificate_only() {
        let dir = tempfile::tempdir().unwrap();
        let first = Pki::ensure(dir.path(), &options()).unwrap();
        let moved = PkiOptions { advertise_address: IpAddr::from([192, 0, 2, 2]), ..options() };
        let second = Pki::ensure(dir.path(), &moved).unwrap();
        assert_eq!(first.ca_pem(), second.ca_pem());
        assert_ne!(first.serving().cert_pem, second.serving().cert_pem);
        assert_eq!(first.kubelet_client().cert_pem, second.kubelet_client().cert_pem);
    }

    #[test]
    fn nobody_else_may_read_the_files() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("pki");
        let pki = Pki::ensure(&folder, &options()).unwrap();
        pki.node_serving("w1", &[IpAddr::from([192, 0, 2, 9])]).unwrap();
        for entry in std::fs::read_dir(&folder).unwrap() {
            let entry = entry.unwrap();
            let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
            assert_eq!(mode, 0o600, "{:?}", entry.file_name());
        }
    }

    #[test]
    fn a_damaged_file_is_named_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        Pki::ensure(dir.path(), &options()).unwrap();
        std::fs::write(dir.path().join("ca.key"), "nonsense").unwrap();
        let error = Pki::ensure(dir.path(), &options()).unwrap_err().to_string();
        assert!(error.contains("ca.key"), "{error}");
        assert_eq!(std::fs::read(dir.path().join("ca.key")).unwrap(), b"nonsense");
    }

    #[test]
    fn a_user_name_cannot_leave_the_folder() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("pki");
        let pki = Pki::ensure(&folder, &options()).unwrap();
        pki.client("../../evil", None).unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
